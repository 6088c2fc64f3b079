"""Exclusive classes of masks: softmax over the background and one logit per class, and argmax.

The background is the reference class: its logit is the constant 0, so that the network gives one
logit per named class, and the probabilities are `softmax([0, z_1, ..., z_K])`. A class map holds 0
for the background and k for the class of channel k - 1.
"""

import torch
from torch import Tensor

from evaluation.logit_bins import HALF_BIN, quantize_logits
from evaluation.metrics.classification import N_CALIBRATION_BINS


def with_background(logits: Tensor) -> Tensor:
    """Put the background's logit 0 before float logits `B x K x ...`: `B x (K + 1) x ...`."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)


def predict_class_map(logits: Tensor) -> Tensor:
    """Return the most probable class of each pixel, the first one of ties.

    Args:
        logits: `B x K x H x W`.

    Returns:
        int64 `B x H x W`, 0 for the background.
    """
    return _rank_classes(logits.float())[0]


def _rank_classes(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the class map, the highest and the second highest logit, the background's included.

    Class by class, because torch's argmax over channels is slow on a CPU.

    Args:
        logits: Float `B x K x H x W`.

    Returns:
        int64, float and float, `B x H x W`.
    """
    best = torch.zeros_like(logits[:, 0])
    second = torch.full_like(best, -torch.inf)
    class_map = torch.zeros_like(best, dtype=torch.int64)
    for number, logit in enumerate(logits.unbind(1), 1):
        class_map.masked_fill_(logit > best, number)  # not at a tie: the earlier class wins
        second = torch.maximum(second, torch.minimum(best, logit))
        best = torch.maximum(best, logit)
    return class_map, best, second


def to_class_map(planes: Tensor) -> Tensor:
    """Convert 0/1 planes `B x K x H x W` to a class map, int64 `B x H x W`.

    Where several planes are 1, which resampling can cause at the border of two classes, the first
    one wins.
    """
    class_map = torch.zeros_like(planes[:, 0], dtype=torch.int64)
    for channel in reversed(range(planes.shape[1])):
        class_map.masked_fill_(planes[:, channel] > 0, channel + 1)
    return class_map


def to_planes(class_map: Tensor, classes: int) -> Tensor:
    """Convert a class map `B x H x W` to bool planes `B x classes x H x W`."""
    numbers = torch.arange(1, classes + 1, device=class_map.device)
    return class_map[:, None] == numbers.view(1, -1, 1, 1)


def quantize_margins(logits: Tensor) -> Tensor:
    """Quantize `z_k - max(0, max of the other z_j)`, so that bytes decide exactly as the argmax.

    The byte of the most probable class is at least `HALF_BIN` and that of all others is below it,
    also where a tie or rounding makes the margin 0.

    Args:
        logits: `B x K x H x W`.

    Returns:
        uint8 of the same shape.
    """
    logits = logits.float()
    class_map, best, second = _rank_classes(logits)
    wins = to_planes(class_map, logits.shape[1])
    byte = quantize_logits(logits - torch.where(wins, second[:, None], best[:, None]))
    return torch.where(wins, byte.clamp(min=HALF_BIN), byte.clamp(max=HALF_BIN - 1))


def count_class_pairs(
    predicted: Tensor, truth: Tensor, classes: int, ignored: Tensor | None = None
) -> Tensor:
    """Count the pixels of each pair of true and predicted class.

    Args:
        predicted: Class map `B x H x W`.
        truth: Class map of the same shape.
        classes: Number of classes K, without the background.
        ignored: `B x 1 x H x W`, 1 where a pixel does not count.

    Returns:
        int32 `B x (K + 1) x (K + 1)`; rows are the truth, columns the prediction.
    """
    images, number = len(truth), classes + 1
    cell = torch.arange(images, device=truth.device).view(-1, 1, 1) * number**2
    index = cell + truth * number + predicted
    counts = torch.zeros(images * number**2, dtype=torch.int32, device=truth.device)
    counts.scatter_add_(0, index.reshape(-1), _counting(ignored, truth).to(torch.int32))
    return counts.view(images, number, number)


def count_top_probabilities(
    logits: Tensor, predicted: Tensor, truth: Tensor, ignored: Tensor | None = None
) -> Tensor:
    """Count pixels by the probability of the predicted class, for its calibration.

    Args:
        logits: `B x K x H x W`.
        predicted: Their class map `B x H x W`; equal probabilities may differ as logits.
        truth: Class map `B x H x W`.
        ignored: As in `count_class_pairs`.

    Returns:
        float64 `B x bins x 3`: in each of `N_CALIBRATION_BINS` equal bins of the probability the
        number of wrong and of correct pixels, and the sum of their probabilities.
    """
    top = with_background(logits.float()).softmax(1).amax(1)
    bins = (top * N_CALIBRATION_BINS).ceil().long().sub_(1).clamp_(0, N_CALIBRATION_BINS - 1)
    right, counting = (predicted == truth).reshape(-1), _counting(ignored, truth)
    image = torch.arange(len(truth), device=truth.device).view(-1, 1, 1) * N_CALIBRATION_BINS
    index = (image + bins).reshape(-1)
    found = torch.zeros(
        len(truth) * N_CALIBRATION_BINS, 3, dtype=torch.float64, device=truth.device
    )
    for column, values in enumerate((~right, right, top.double().reshape(-1))):
        found[:, column].scatter_add_(0, index, values * counting)
    return found.view(len(truth), N_CALIBRATION_BINS, 3)


def _counting(ignored: Tensor | None, like: Tensor) -> Tensor:
    """Return 1 for each pixel of `B x H x W` that counts, else 0; float64, flat."""
    if ignored is None:
        return torch.ones(1, dtype=torch.float64, device=like.device).expand(like.numel())
    return (ignored == 0).double().reshape(-1)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return `log softmax([0, z])` of logits `B x K x ...`: `B x (K + 1) x ...`."""
    return with_background(logits).log_softmax(1)
