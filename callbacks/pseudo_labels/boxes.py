"""Boxes of fixed or adaptive size around the peaks of a heat map."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torchvision.ops import nms

from callbacks.pseudo_labels.peaks import find_peaks, find_region_around_peak, suppress_close_peaks
from callbacks.pseudo_labels.proposals import Proposals
from datamodules.arguments import Count, Fraction, NonNegative, Number, validated
from datamodules.content import ContentBox
from datamodules.refusal import UserError

BoxSide = Annotated[Number, Field(ge=1)]  # of a box, in canvas pixels


@validated
class PeakBoxes:
    """A box around each peak of a heat map, the strongest ones, hardly overlapping.

    Example:
        boxes: {size: adaptive, share: 0.5, smallest: 24, largest: 192}

    Args:
        size: `fixed`: `width x height` around the peak. `adaptive`: what encloses the connected
            region around the peak above a share of its height; peaks whose valleys are less deep
            have one region, and so one box.
        width: Of fixed boxes, in canvas pixels.
        height: Likewise.
        adaptive_threshold: Of adaptive boxes: of the peak's height.
        smallest: Of adaptive boxes: least length of a side in canvas pixels; a shorter one grows
            about the region's middle.
        largest: Of adaptive boxes: greatest length of a side; a longer one is cut, about the peak.
        per_image: Boxes at most.
        threshold_rel: Height of a peak, as a share of the image's highest one.
        min_distance: Canvas pixels between two peaks, in x or y; of those that are closer the
            higher counts.
        iou: Of two boxes that overlap more (intersection over union) the one with the higher peak
            is kept.
        key: What errors call this object.

    Raises:
        Refusal: an unknown size, a number out of its range.
    """

    def __init__(
        self,
        size: Literal["fixed", "adaptive"] = "fixed",
        width: BoxSide = 48,
        height: BoxSide = 48,
        adaptive_threshold: Fraction = 0.5,
        smallest: BoxSide = 24,
        largest: BoxSide = 192,
        per_image: Count = 5,
        threshold_rel: Fraction = 0.2,
        min_distance: NonNegative = 16,
        iou: Fraction = 0.15,
        key: str = "callbacks.pseudo_labels.boxes",
    ) -> None:
        if largest < smallest:
            raise UserError(
                f"{key}.largest={largest:g} is below {key}.smallest={smallest:g}; raise it, or"
                " lower the other"
            )
        self.size, self.width, self.height, self.adaptive_threshold, self.smallest, self.largest = (
            size,
            width,
            height,
            adaptive_threshold,
            smallest,
            largest,
        )
        self.per_image, self.threshold_rel, self.min_distance, self.iou = (
            per_image,
            threshold_rel,
            min_distance,
            iou,
        )

    def __call__(self, heat: np.ndarray, content: ContentBox) -> Proposals:
        """The boxes of one image; none where the heat is all zero, or the same everywhere.

        Args:
            heat: `H x W` at canvas size, 0 or more.
            content: The picture's place on the canvas. Peaks on the padding are not taken. A box
                that sticks out of the content is shifted inside; one that is larger is cut to it.
        """
        top, left, height, width = content
        peaks, heights = find_peaks(heat, content)
        peaks, heights = (
            each[heights >= self.threshold_rel * heights.max(initial=0)]
            for each in (peaks, heights)
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
            self._bound_region(
                find_region_around_peak(peak, picture, self.adaptive_threshold * high), peak
            )
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
    """Boxes `N x 4` shifted into a frame (x1, y1, x2, y2) with their size kept; a box larger than the frame is cut to it."""
    sides = np.minimum(boxes[:, 2:] - boxes[:, :2], frame[2:] - frame[:2])
    starts = ((boxes[:, :2] + boxes[:, 2:] - sides) / 2).clip(frame[:2], frame[2:] - sides)
    return np.concatenate([starts, starts + sides], axis=1)
