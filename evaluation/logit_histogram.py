"""Quantize logits to 256 bins and count them per image and class."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.loading.letterbox import ContentBox

N_BINS = 256
HALF_BIN = 128  # the byte of probability .5
BINS_PER_LOGIT = 8.0  # bytes a unit of logit
LOGIT_OFFSET = 16.0  # the logit of byte 0 is -OFFSET


def quantize_logits(logit: Tensor) -> Tensor:
    """uint8 `clamp(floor((logit + 16) * 8), 0, 255)` of a float tensor of any shape."""
    return ((logit.float() + LOGIT_OFFSET) * BINS_PER_LOGIT).clamp_(0, N_BINS - 1).to(torch.uint8)


def bin_of(probability: float) -> int:
    """Return the lowest byte of at least this probability; LEVELS if no byte reaches it."""
    if probability <= 0:
        return 0
    if probability >= 1:
        return N_BINS
    return min(
        N_BINS,
        max(
            0,
            math.ceil(
                (math.log(probability / (1 - probability)) + LOGIT_OFFSET) * BINS_PER_LOGIT - 1e-9
            ),
        ),
    )


def bin_probability(byte: np.ndarray | float) -> np.ndarray:
    """The probability at the lower edge of a byte."""
    return 1 / (1 + np.exp(LOGIT_OFFSET - np.asarray(byte, np.float64) / BINS_PER_LOGIT))


def logit_histograms(
    logits: Tensor, truth: Tensor | Sequence[Tensor], content: Sequence[ContentBox]
) -> Tensor:
    """Count the bytes of each image and class on the grid of its truth.

    Args:
        logits: `B x C x S x S` on the network's canvas.
        truth: 0/1 `C x h x w` per image, or one tensor `B x C x h x w`; logits are resized to it,
            never the reverse.
        content: The picture's place on the canvas; what is outside is padding and does not count.

    Returns:
        int32 `B x C x 2 x 256`.
    """
    if isinstance(truth, Tensor) and len(set(content)) == 1:
        return _count_logit_bins(_resize_to_grid(logits, truth.shape[-2:], content[0]), truth)
    one_by_one = [
        _count_logit_bins(
            _resize_to_grid(logits[i : i + 1], truth[i].shape[-2:], content[i]), truth[i][None]
        )
        for i in range(len(content))
    ]
    return torch.cat(one_by_one)


def _resize_to_grid(logits: Tensor, size: Sequence[int], content: ContentBox) -> Tensor:
    inside = logits[content.slices].float()
    if (content.height, content.width) == tuple(size):
        return inside
    return nn.functional.interpolate(inside, size=tuple(size), mode="bilinear", align_corners=False)


def _count_logit_bins(logits: Tensor, truth: Tensor) -> Tensor:
    """One scatter_add for the batch: unlike bincount it does not wait for the device."""
    images, classes = logits.shape[:2]
    cell = torch.arange(images * classes, device=logits.device).view(images, classes, 1, 1) * (
        2 * N_BINS
    )
    index = quantize_logits(logits).long().add_(truth, alpha=N_BINS).add_(cell).reshape(-1)
    counts = torch.zeros(images * classes * 2 * N_BINS, dtype=torch.int32, device=logits.device)
    counts.scatter_add_(
        0, index, torch.ones(1, dtype=torch.int32, device=logits.device).expand(index.shape)
    )
    return counts.view(images, classes, 2, N_BINS)
