"""Boxes that a heat map proposes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Proposals:
    """Where a heat map points to, strongest first, in canvas pixels.

    Attributes:
        boxes: float64 `N x 4` (x1, y1, x2, y2), edges.
        peaks: float64 `N x 2` (x, y), each inside its box; the centre of the first pixel is (.5,
            .5).
        heights: float64 `N`, the heat at the peaks.
    """

    boxes: np.ndarray
    peaks: np.ndarray
    heights: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)
