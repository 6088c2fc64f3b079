"""Byte maps and true masks of one image, for overlays at any threshold."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from callbacks.report import packed
from callbacks.report.cases import SIDE
from datamodules.sample import Sample
from lightning_modules.logit_byte import quantize


def encode_logit_maps(
    batch: Sample, i: int, logits: Tensor, channels: Sequence[int], side: int = SIDE
) -> tuple[dict[int, str], tuple[int, int]]:
    """Return class -> packed byte map and true mask, and their height and width.

    They are never larger than the network saw the image.

    Args:
        batch: Holds its image and mask.
        i: Index in the batch.
        logits: `1 x classes x S x S` on the network's canvas.
        channels: Classes to return.
        side: Longest side of a map in pixels.
    """
    _, _, height, width = content = batch["content"][i]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))

    def smaller(plane: np.ndarray) -> np.ndarray:
        return (
            plane
            if size == plane.shape
            else cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA)
        )

    found = {}
    for channel in channels:
        bytes_ = quantize(
            Tensor(smaller(logits[content.inside][0, channel].float().numpy()))
        ).numpy()
        truth = smaller(batch["mask"][i][content.inside][channel].float().numpy()) >= 0.5
        found[channel] = packed.encode_mask(bytes_, truth)
    return found, size
