"""Interface of segmenters that are prompted with boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

CONFIG_KEY = "callbacks.pseudo_labels"


@dataclass(frozen=True)
class Masks:
    """Masks of one image, in its own pixels.

    Attributes:
        masks: Bool `N x H x W`, one per box; all false if the segmenter found nothing.
        scores: Float32 `N`, the segmenter's own confidence in each; 0 for an empty mask.
    """

    masks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.masks)

    def union(self, accepted: Sequence[bool]) -> np.ndarray:
        """Return the union of the accepted masks, bool `H x W`; empty if none is accepted.

        Args:
            accepted: `N`, True for each mask that is kept.
        """
        return self.masks[np.asarray(accepted, bool)].any(0)


@runtime_checkable
class Segmenter(Protocol):
    """Interface of a segmenter of the boxes of one image; conf chooses it by `_target_`."""

    def __call__(self, image: np.ndarray, boxes: np.ndarray, points: np.ndarray) -> Masks:
        """Segment each box.

        Args:
            image: Gray image with bright lesions, uint8 `H x W`.
            boxes: Float `N x 4`, x1, y1, x2, y2: the edges in pixels.
            points: Float `N x 2`, x, y: the peak of the heat map in each box; it may miss the
                lesion by some pixels.
        """
        ...


def empty_masks(image: np.ndarray) -> Masks:
    """Return the masks of no boxes."""
    return Masks(np.zeros((0, *image.shape), bool), np.zeros(0, np.float32))


def box_to_slices(
    box: np.ndarray, shape: tuple[int, ...], margin: float = 0.0
) -> tuple[slice, slice]:
    """Return the rows and columns of pixels with their center in a box; empty outside the image.

    Args:
        box: Box (x1, y1, x2, y2), float.
        shape: Height and width of the image.
        margin: Growth of the box on each side, as a fraction of its width or height.
    """
    (low, high), limits = box.reshape(2, 2), np.array(shape[1::-1])
    grown = margin * (high - low)
    start = np.clip(np.ceil(low - grown - 0.5), 0, limits).astype(int)
    stop = np.clip(np.floor(high + grown + 0.5), 0, limits).astype(int)
    return slice(start[1], max(start[1], stop[1])), slice(start[0], max(start[0], stop[0]))
