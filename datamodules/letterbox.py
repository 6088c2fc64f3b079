"""The aspect-keeping resize onto a canvas, and where the picture lies on it."""

from dataclasses import dataclass

import cv2
import numpy as np

from datamodules.sample import Content


@dataclass(frozen=True)
class Letterbox:
    """Fits a `height x width` picture into a square canvas of side `size`, centred, longest side filled.

    Args:
        height: Rows of the picture in pixels.
        width: Columns of the picture in pixels.
        size: Side of the canvas in pixels.
    """

    height: int
    width: int
    size: int

    @property
    def content(self) -> Content:
        """Top, left, height and width of the picture on the canvas, in canvas pixels."""
        height, width = scaled(self.height, self.width, self.size)
        return Content((self.size - height) // 2, (self.size - width) // 2, height, width)

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """Places uint8 `H x W x C` on a black canvas `size x size x C`; area-averaged where it shrinks."""
        return self._place(pixels, shrink=cv2.INTER_AREA)

    def mask(self, pixels: np.ndarray) -> np.ndarray:
        """Places a 0/1 mask `H x W x C`: a canvas pixel is 1 where at least half of it is covered."""
        return (self._place(pixels * np.uint8(255), shrink=cv2.INTER_AREA) >= 128).astype(np.uint8)

    def _place(self, pixels: np.ndarray, shrink: int) -> np.ndarray:
        top, left, height, width = self.content
        canvas = np.zeros((self.size, self.size, pixels.shape[2]), np.uint8)
        canvas[top : top + height, left : left + width] = resized(pixels, height, width, shrink)
        return canvas


def scaled(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width when the longest side becomes `size`, each at least one pixel."""
    factor = size / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resized(pixels: np.ndarray, height: int, width: int, shrink: int = cv2.INTER_AREA) -> np.ndarray:
    """`H x W x C` to `height x width x C`: `shrink` where it gets smaller, bilinear where larger."""
    if pixels.shape[:2] == (height, width):
        return pixels
    smaller = height * width < pixels.shape[0] * pixels.shape[1]
    # OpenCV drops a single channel and refuses more than four at once in some modes: resize channel by channel then
    planes = [
        cv2.resize(np.ascontiguousarray(pixels[..., c]), (width, height), interpolation=shrink if smaller else cv2.INTER_LINEAR)
        for c in range(pixels.shape[2])
    ]
    return np.stack(planes, axis=-1)


def grid(height: int, width: int, evaluation_size: int | str) -> tuple[int, int]:
    """The evaluation grid of a picture: its own size if `native`, else its longest side at that many pixels."""
    return (height, width) if evaluation_size == "native" else scaled(height, width, int(evaluation_size))
