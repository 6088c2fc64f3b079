"""Conversion of the peaks of a heat map to boxes."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage
from skimage.morphology import local_maxima
from torchvision.ops import nms

from datamodules.arguments import (
    ArgumentError,
    Fraction,
    NonNegativeFloat,
    PositiveInt,
    config_dataclass,
)
from datamodules.loading.letterbox import ContentBox
from evaluation.localization import Proposals

EIGHT_CONNECTED = np.ones((3, 3))  # pixels that share a side or a corner are connected


def find_peaks(heat: np.ndarray, content: ContentBox) -> tuple[np.ndarray, np.ndarray]:
    """Find the peaks inside the image, highest first.

    A peak is a connected set of equally high pixels above 0 without a higher neighbour, so a
    plateau is one peak at its center. Peaks are searched on the whole canvas, and those on the
    padding are left out, because a slope that rises into the padding is not a peak.

    Args:
        heat: `H x W` at canvas size. A constant map has no peak.
        content: Position of the image on the canvas.

    Returns:
        float64 `N x 2` (x, y) in canvas pixels, where the center of the first pixel is (.5, .5),
        and float64 `N`, the values of the heat map there.
    """
    labels, count = ndimage.label(local_maxima(heat), EIGHT_CONNECTED)
    each = np.arange(1, count + 1)
    middles = (
        np.array(ndimage.center_of_mass(labels > 0, labels, each), float).reshape(-1, 2)[:, ::-1]
        + 0.5
    )
    heights = np.asarray(ndimage.maximum(heat, labels, each), float).reshape(-1)
    top, left, height, width = content
    seen = ((middles >= [left, top]) & (middles <= [left + width, top + height])).all(1) & (
        heights > 0
    )
    order = np.argsort(-heights[seen], kind="stable")
    return middles[seen][order], heights[seen][order]


def suppress_close_peaks(peaks: np.ndarray, min_distance: float) -> np.ndarray:
    """Return the indices of peaks `N x 2`, highest first, that are far from all higher kept peaks.

    The distance must be at least `min_distance` in x or in y.
    """
    kept: list[int] = []
    for i, peak in enumerate(peaks):
        if not kept or np.abs(peaks[kept] - peak).max(1).min() >= min_distance:
            kept.append(i)
    return np.array(kept, int)


def find_region_around_peak(peak: np.ndarray, heat: np.ndarray, min_height: float) -> np.ndarray:
    """Return the bounding box (x1, y1, x2, y2) of the connected pixels around a peak (x, y).

    Args:
        peak: Peak in pixels of `heat`.
        heat: Heat map, `h x w`.
        min_height: Smallest value of these pixels; pixels of 0 are never included.
    """
    labels, _ = ndimage.label((heat >= min_height) & (heat > 0), EIGHT_CONNECTED)
    x, y = np.minimum(peak.astype(int), [heat.shape[1] - 1, heat.shape[0] - 1])
    if not labels[y, x]:  # the center of a hollow plateau
        return np.array([x, y, x + 1, y + 1], float)
    rows, columns = ndimage.find_objects(labels)[labels[y, x] - 1]
    return np.array([columns.start, rows.start, columns.stop, rows.stop], float)


BoxSide = Annotated[float, Field(ge=1)]  # side of a box in canvas pixels


@config_dataclass
class PeakBoxes:
    """Boxes around the strongest peaks of a heat map, with little overlap.

    Example:
        boxes: {size: adaptive, share: 0.5, smallest: 24, largest: 192}

    Args:
        size: `fixed`: `width x height` around the peak. `adaptive`: the bounding box of the
            connected region around the peak above a fraction of its height; peaks without a deeper
            valley between them share one region and one box.
        width: Width of fixed boxes, in canvas pixels.
        height: Height of fixed boxes, in canvas pixels.
        share: Fraction of the peak's height that bounds the region of an adaptive box.
        smallest: Smallest side of adaptive boxes in canvas pixels; a shorter side is enlarged
            around the region's center.
        largest: Largest side of adaptive boxes in canvas pixels; a longer side is cut around the
            peak.
        per_image: Largest number of boxes per image.
        at_least: Smallest height of a peak, as a fraction of the image's highest peak.
        min_distance: Smallest distance of two peaks in canvas pixels, in x or y; the higher one of
            two closer peaks is kept.
        iou: Largest overlap of two boxes (intersection over union); if two boxes overlap more, the
            one with the higher peak is kept.

    Raises:
        UserError: The size is unknown, or a number is out of its range.
    """

    size: Literal["fixed", "adaptive"] = "fixed"
    width: BoxSide = 48
    height: BoxSide = 48
    share: Fraction = 0.5
    smallest: BoxSide = 24
    largest: BoxSide = 192
    per_image: PositiveInt = 5
    at_least: Fraction = 0.2
    min_distance: NonNegativeFloat = 16
    iou: Fraction = 0.15

    def __post_init__(self) -> None:
        if self.largest < self.smallest:
            raise ArgumentError(
                "",
                ("largest",),
                f"={self.largest:g} is below smallest={self.smallest:g}; raise it, or lower the"
                " other",
            )

    def __call__(self, heat: np.ndarray, content: ContentBox) -> Proposals:
        """Propose the boxes of one image; none if the heat map is constant.

        Args:
            heat: `H x W` at canvas size, 0 or more.
            content: Position of the image on the canvas. Peaks on the padding are ignored. A box
                that extends beyond the content is shifted inside; a larger box is cut to it.
        """
        top, left, height, width = content
        peaks, heights = find_peaks(heat, content)
        peaks, heights = (
            each[heights >= self.at_least * heights.max(initial=0)] for each in (peaks, heights)
        )
        far = suppress_close_peaks(peaks, self.min_distance)
        peaks, heights = peaks[far], heights[far]
        boxes = (
            self._fixed_boxes(peaks)
            if self.size == "fixed"
            else self._adaptive_boxes(heat, content, peaks, heights)
        )
        boxes = shift_boxes_inside(boxes, np.array([left, top, left + width, top + height], float))
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(heights), self.iou).numpy()[
            : self.per_image
        ]
        return Proposals(boxes[kept], peaks[kept], heights[kept])

    def _fixed_boxes(self, peaks: np.ndarray) -> np.ndarray:
        half = np.array([self.width, self.height]) / 2
        return np.concatenate([peaks - half, peaks + half], axis=1)

    def _adaptive_boxes(
        self, heat: np.ndarray, content: ContentBox, peaks: np.ndarray, heights: np.ndarray
    ) -> np.ndarray:
        top, left, height, width = content
        picture, corner = (
            heat[top : top + height, left : left + width],
            np.array([left, top], float),
        )
        own = peaks - corner
        boxes = [
            self._bound_region(find_region_around_peak(peak, picture, self.share * high), peak)
            for peak, high in zip(own, heights, strict=True)
        ]
        return np.array(boxes, float).reshape(-1, 4) + np.tile(corner, 2)

    def _bound_region(self, region: np.ndarray, peak: np.ndarray) -> np.ndarray:
        sides = region[2:] - region[:2]
        wanted = sides.clip(self.smallest, self.largest)
        cut = peak.clip(
            region[:2] + wanted / 2, np.maximum(region[:2] + wanted / 2, region[2:] - wanted / 2)
        )
        middle = np.where(wanted < sides, cut, (region[:2] + region[2:]) / 2)
        return np.concatenate([middle - wanted / 2, middle + wanted / 2])


def shift_boxes_inside(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Shift boxes `N x 4` into a frame (x1, y1, x2, y2) and keep their size.

    A box larger than the frame is cut to it.
    """
    sides = np.minimum(boxes[:, 2:] - boxes[:, :2], frame[2:] - frame[:2])
    starts = ((boxes[:, :2] + boxes[:, 2:] - sides) / 2).clip(frame[:2], frame[2:] - sides)
    return np.concatenate([starts, starts + sides], axis=1)
