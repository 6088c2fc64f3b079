"""Run-length encoded masks: 0/1 arrays to pycocotools' compressed strings and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Rle = dict[str, Any]  # {"size": [height, width], "counts": str}, compressed run lengths, column-major


def encode(mask: np.ndarray) -> list[Rle | None]:
    """0/1 `H x W x classes` to one compressed RLE per class."""
    return [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))]


def decode(rles: Sequence[Rle | None], height: int, width: int) -> np.ndarray:
    """One RLE or None per class to 0/1 `height x width x classes`."""
    mask = np.zeros((height, width, len(rles)), np.uint8)
    for channel, rle in enumerate(rles):
        if rle is not None:
            mask[..., channel] = coco_mask.decode(rle)
    return mask
