"""Quantize logits to 256 bins and count them per image and class."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from datamodules.loading.letterbox import ContentBox
from evaluation.logit_bins import N_BINS, quantize_logits


def logit_histograms(
    logits: Tensor,
    truth: Tensor | Sequence[Tensor],
    content: Sequence[ContentBox],
    ignored: Tensor | Sequence[Tensor] | None = None,
) -> Tensor:
    """Count the bytes of each image and class on the grid of its truth.

    Args:
        logits: `B x C x S x S` on the network's canvas.
        truth: 0/1 `C x h x w` per image, or one tensor `B x C x h x w`; logits are resized to it,
            never the reverse.
        content: The picture's place on the canvas; what is outside is padding and does not count.
        ignored: 1 where a pixel does not count, with one channel and otherwise in the form of
            `truth`; None if all count.

    Returns:
        int32 `B x C x 2 x 256`.
    """
    groups = group_by_grid(logits, truth, content, ignored)
    return torch.cat(
        [count_bytes(quantize_logits(each), true, left_out) for each, true, left_out in groups]
    )


def group_by_grid(
    logits: Tensor,
    truth: Tensor | Sequence[Tensor],
    content: Sequence[ContentBox],
    ignored: Tensor | Sequence[Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield logits on the grid of their truth, that truth, and what of it is ignored.

    The arguments are those of `logit_histograms`, and the images keep their order. All images
    together are one group where their grids are the same, else each is a group of its own.

    Yields:
        Logits float `b x C x h x w`, truth `b x C x h x w`, and `b x 1 x h x w` or None.
    """
    if isinstance(truth, Tensor) and len(set(content)) == 1:
        if ignored is not None and not isinstance(ignored, Tensor):
            ignored = torch.stack(list(ignored))
        yield _resize_to_grid(logits, truth.shape[-2:], content[0]), truth, ignored
        return
    for i, box in enumerate(content):
        left_out = None if ignored is None else ignored[i][None]
        yield _resize_to_grid(logits[i : i + 1], truth[i].shape[-2:], box), truth[i][None], left_out


def _resize_to_grid(logits: Tensor, size: Sequence[int], content: ContentBox) -> Tensor:
    inside = logits[content.slices].float()
    if (content.height, content.width) == tuple(size):
        return inside
    return nn.functional.interpolate(inside, size=tuple(size), mode="bilinear", align_corners=False)


def count_bytes(bytes_: Tensor, truth: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Count the bytes of logits on the grid of their truth, both `b x C x h x w`.

    Args:
        bytes_: uint8, as a decision rule's `to_bytes` gives them.
        truth: 0 or 1.
        ignored: `b x 1 x h x w`, 1 where a pixel does not count; None if all count.

    Returns:
        int32 `b x C x 2 x 256`.
    """
    # one scatter_add for the batch: unlike bincount it does not wait for the device
    images, classes = bytes_.shape[:2]
    cell = torch.arange(images * classes, device=bytes_.device).view(images, classes, 1, 1) * (
        2 * N_BINS
    )
    index = bytes_.long().add_(truth, alpha=N_BINS).add_(cell).reshape(-1)
    counts = torch.zeros(images * classes * 2 * N_BINS, dtype=torch.int32, device=bytes_.device)
    if ignored is None:
        each = torch.ones(1, dtype=torch.int32, device=bytes_.device).expand(index.shape)
    else:
        each = (ignored == 0).to(torch.int32).expand_as(bytes_).reshape(-1)
    counts.scatter_add_(0, index, each)
    return counts.view(images, classes, 2, N_BINS)
