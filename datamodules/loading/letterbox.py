"""Letterbox images onto a canvas, with the exact inverse; needs only NumPy and OpenCV."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from datamodules.image_size import ImageSize, ImageSizeLike


class ContentBox(NamedTuple):
    """Position of an image on its canvas, in pixels; everything outside is padding."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[Any, slice, slice]:
        """Slices that cut the padding off an array `... x H x W`: `canvas[content.slices]`."""
        return (
            ...,
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True)
class Letterbox:
    """Mapping of a `height x width` image onto a canvas, centered and as large as possible.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        size: Size of the canvas in pixels: the side of a square, or (height, width).
    """

    height: int
    width: int
    size: ImageSizeLike

    @property
    def canvas(self) -> ImageSize:
        """Height and width of the canvas in pixels."""
        return ImageSize.from_config(self.size)

    @property
    def content(self) -> ContentBox:
        """Top, left, height and width of the image on the canvas, in canvas pixels."""
        canvas = self.canvas
        height, width = fit_size(self.height, self.width, canvas)
        return ContentBox((canvas.height - height) // 2, (canvas.width - width) // 2, height, width)

    @property
    def scale(self) -> float:
        """Canvas pixels per image pixel, before the content's size is rounded to whole pixels."""
        return min(self.canvas.height / self.height, self.canvas.width / self.width)

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """Place `H x W x C` of 8 or 16 bits on a black canvas; area-averaged if it shrinks."""
        return self._place_on_canvas(pixels, shrink=cv2.INTER_AREA)

    def mask(self, pixels: np.ndarray) -> np.ndarray:
        """Place a 0/1 mask `H x W x C`; a canvas pixel is 1 if at least half of it is covered."""
        return (self._place_on_canvas(pixels * np.uint8(255), shrink=cv2.INTER_AREA) >= 128).astype(
            np.uint8
        )

    def back(self, pixels: np.ndarray) -> np.ndarray:
        """Resize canvas floats `h x w`, such as a heat map, to the image's size without padding."""
        top, left, height, width = self.content
        return resize_image(
            pixels[top : top + height, left : left + width, None], self.height, self.width
        )[..., 0]

    def mask_back(self, pixels: np.ndarray) -> np.ndarray:
        """Resize a 0/1 canvas mask `h x w` to the image's size.

        A pixel is 1 if at least half of it is covered.
        """
        return (self.back(pixels.astype(np.uint8) * np.uint8(255)) >= 128).astype(np.uint8)

    def logits_back(self, canvas: np.ndarray) -> np.ndarray:
        """Resize the logits of a canvas to the image's size without padding.

        They are interpolated linearly and not averaged where they shrink, as
        `torch.nn.functional.interpolate` does without antialiasing.

        Args:
            canvas: float32 `C x h x w`.

        Returns:
            float32 `C x H x W`.
        """
        inside = canvas[self.content.slices]
        if inside.shape[1:] == (self.height, self.width):
            return inside
        left, right, share = _neighbors(inside.shape[2], self.width)
        wide = inside[..., left] * (1 - share) + inside[..., right] * share
        above, below, share = _neighbors(inside.shape[1], self.height)
        share = share[:, None]
        return wide[:, above] * (1 - share) + wide[:, below] * share

    def points(self, own: np.ndarray) -> np.ndarray:
        """Map points `N x 2` (x, y) from image pixels to canvas pixels.

        The corner of the first pixel is (0, 0).
        """
        factor, shift = self._affine
        return np.asarray(own, np.float64).reshape(-1, 2) * factor + shift

    def points_back(self, on_canvas: np.ndarray) -> np.ndarray:
        """Map points `N x 2` (x, y) from canvas pixels to image pixels; the inverse of `points`."""
        factor, shift = self._affine
        return (np.asarray(on_canvas, np.float64).reshape(-1, 2) - shift) / factor

    def boxes(self, own: np.ndarray) -> np.ndarray:
        """Map boxes `N x 4` (x1, y1, x2, y2) from image pixels to canvas pixels."""
        return self.points(own).reshape(-1, 4)

    def boxes_back(self, on_canvas: np.ndarray) -> np.ndarray:
        """Map boxes `N x 4` from canvas pixels to image pixels; the inverse of `boxes`."""
        return self.points_back(on_canvas).reshape(-1, 4)

    @property
    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Factor and shift of x and y; the factors may differ due to rounding to whole pixels."""
        top, left, height, width = self.content
        return np.array([width / self.width, height / self.height]), np.array(
            [left, top], np.float64
        )

    def _place_on_canvas(self, pixels: np.ndarray, shrink: int) -> np.ndarray:
        top, left, height, width = self.content
        canvas = np.zeros((*self.canvas, pixels.shape[2]), pixels.dtype)
        canvas[top : top + height, left : left + width] = resize_image(
            pixels, height, width, shrink
        )
        return canvas


def _neighbors(length: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a linear interpolation of `length` samples at `target` places reads.

    OpenCV computes the places in float64. Here they are float32 as in torch, because masks of both
    must agree to the pixel.

    Returns:
        Index of the sample before each place, index of the one behind it, and the share of the
        latter, float32.
    """
    step = np.float32(length) / np.float32(target)
    place = np.arange(target, dtype=np.float32) + np.float32(0.5)
    place = np.maximum(place * step - np.float32(0.5), 0)
    before = np.minimum(place.astype(np.int64), length - 1)
    return before, np.minimum(before + 1, length - 1), place - before.astype(np.float32)


def fit_size(height: int, width: int, size: ImageSizeLike) -> tuple[int, int]:
    """Return height and width of an image scaled to fit a canvas, each at least one pixel."""
    canvas = ImageSize.from_config(size)
    factor = min(canvas.height / height, canvas.width / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize_image(
    pixels: np.ndarray, height: int, width: int, shrink: int = cv2.INTER_AREA
) -> np.ndarray:
    """Resize `H x W x C` to `height x width x C`: by `shrink` if it gets smaller, else bilinear."""
    if pixels.shape[:2] == (height, width):
        return pixels
    smaller = height * width < pixels.shape[0] * pixels.shape[1]
    # OpenCV drops a single channel and refuses more than four in some modes: resize one at a time
    planes = [
        cv2.resize(
            np.ascontiguousarray(pixels[..., c]),
            (width, height),
            interpolation=shrink if smaller else cv2.INTER_LINEAR,
        )
        for c in range(pixels.shape[2])
    ]
    return np.stack(planes, axis=-1)


def evaluation_grid_size(height: int, width: int, evaluation_size: int | str) -> tuple[int, int]:
    """Return height and width of the evaluation grid.

    They are the image's own size for `native`, otherwise the longest side has that many pixels.
    """
    return (
        (height, width)
        if evaluation_size == "native"
        else fit_size(height, width, int(evaluation_size))
    )
