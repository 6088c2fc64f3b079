"""Quantize logits to 256 bins and count them per image and class."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from datamodules.loading.letterbox import ContentBox
from evaluation.logit_bins import N_BINS, quantize_logits


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
    return torch.cat([count_logit_bins(*group) for group in group_by_grid(logits, truth, content)])


def group_by_grid(
    logits: Tensor, truth: Tensor | Sequence[Tensor], content: Sequence[ContentBox]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits on the grid of their truth, and that truth, in the order of the images.

    The arguments are those of `logit_histograms`. All images together are one group where their
    grids are the same, else each is a group of its own.

    Yields:
        Logits float `b x C x h x w` and truth `b x C x h x w`.
    """
    if isinstance(truth, Tensor) and len(set(content)) == 1:
        yield _resize_to_grid(logits, truth.shape[-2:], content[0]), truth
        return
    for i, box in enumerate(content):
        yield _resize_to_grid(logits[i : i + 1], truth[i].shape[-2:], box), truth[i][None]


def _resize_to_grid(logits: Tensor, size: Sequence[int], content: ContentBox) -> Tensor:
    inside = logits[content.slices].float()
    if (content.height, content.width) == tuple(size):
        return inside
    return nn.functional.interpolate(inside, size=tuple(size), mode="bilinear", align_corners=False)


def count_logit_bins(logits: Tensor, truth: Tensor) -> Tensor:
    """Count the bytes of logits on the grid of their truth, both `b x C x h x w`.

    Returns:
        int32 `b x C x 2 x 256`.
    """
    # one scatter_add for the batch: unlike bincount it does not wait for the device
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
