"""Masks without weights: a hot spot is told from what lies around it by its brightness alone."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field
from scipy import ndimage
from skimage.segmentation import random_walker

from callbacks.pseudo_labels.hot_spot import (
    Blob,
    compute_contrast,
    connected_component,
    crop_box,
    find_blob,
)
from callbacks.pseudo_labels.masks import Masks, box_to_slices
from datamodules.arguments import Fraction, NonNegative, Number, validated

ContrastFraction = Annotated[Number, Field(ge=0.01, le=1)]  # of the contrast


@dataclass(frozen=True, kw_only=True)
class ClassicalSegmenter(ABC):
    """What the segmenters without weights share: each box is cut out with its surroundings, and one bright blob in it is told from the rest.

    A mask is one piece without holes. It lies in its box, whatever the box cuts off, unless
    `margin` allows more. Its score is its contrast, (mean grey value within - without) / (their
    sum), 0 to 1, over what was cut out. Nothing brighter than its surroundings: no mask.

    Args:
        sigma: Of the Gaussian that calms the counting noise before anything else, in pixels.
        reach: How far from the peak the lesion may lie, as a share of the box's longer side: it is
            sought where the strength of a blob times a Gaussian of this width around the peak is
            greatest, because the cells of a heat map are coarse.
        blob: A blob is what is left where a Gaussian of this width, in pixels, is subtracted from
            one of width 1.
        context: Pixels around the box that are cut out too; they are no lesion.
        background: Quantile of what is cut out that is the background's level; contrasts count from
            there to the blob's strongest place.
        seed_level: Share of that contrast above which pixels connected with that place are lesion for
            certain.
        margin: By how much the box is grown on each side, as a share of its width or height.
        working_size: Pixels of the longer side to which a larger box is shrunk; then `sigma`,
            `blob` and `context` count the shrunk pixels.

    Raises:
        Refusal: a number that is impossible.
    """

    sigma: Annotated[Number, Field(ge=0, le=100)] = 1.5
    reach: Annotated[Number, Field(ge=0.01, le=100)] = 0.35
    blob: Annotated[Number, Field(ge=1.1, le=100)] = 4.0
    context: Annotated[int, Field(ge=0, le=1000)] = 8
    background: Fraction = 0.4
    seed_level: ContrastFraction = 0.8
    margin: Annotated[Number, Field(ge=0, le=10)] = 0.0
    working_size: Annotated[int, Field(ge=8, le=2048)] = 64

    def __call__(self, image: np.ndarray, boxes: np.ndarray, points: np.ndarray) -> Masks:
        """A mask a box, see `masks.Segmenter`."""
        found = Masks(np.zeros((len(boxes), *image.shape), bool), np.zeros(len(boxes), np.float32))
        for i, (box, point) in enumerate(zip(boxes, points, strict=True)):
            found.scores[i] = self._segment_box(found.masks[i], image, box, point)
        return found

    @abstractmethod
    def segment(self, blob: Blob) -> np.ndarray:
        """Which pixels are lesion, bool `h x w`."""

    def _segment_box(
        self, mask: np.ndarray, image: np.ndarray, box: np.ndarray, point: np.ndarray
    ) -> float:
        """Draws one box's mask and returns its score."""
        rows, columns = box_to_slices(box, image.shape, self.margin)
        if rows.start == rows.stop or columns.start == columns.stop:
            return 0.0
        part = crop_box(image, (rows, columns), point, self.context, self.working_size)
        grey = cv2.GaussianBlur(part.gray, (0, 0), self.sigma) if self.sigma > 0 else part.gray
        reach = max(
            0.5, self.reach * part.scale * max(box[2:] - box[:2])
        )  # half a pixel even of a box that is a point
        spot = find_blob(part, grey, reach, self.blob, self.background, self.seed_level)
        if spot is None:
            return 0.0
        found = ndimage.binary_fill_holes(
            connected_component(self.segment(spot) & spot.in_box, spot.peak_index)
        )
        top, left = part.window[0].start, part.window[1].start
        mask[rows, columns] = part.resize_to_window(found)[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        return compute_contrast(grey, found)


@validated
@dataclass(frozen=True, kw_only=True)
class GrabCutSegmenter(ClassicalSegmenter):
    """GrabCut (Rother et al. 2004) of OpenCV: mixtures of the brightness of lesion and background, and the cheapest border between them.

    Args:
        initial_level: Share of the contrast above which a pixel is taken for lesion at first.
        iterations: How often the mixtures and the border are found anew.

    Raises:
        Refusal: a number that is impossible.
    """

    initial_level: ContrastFraction = 0.5
    iterations: Annotated[int, Field(ge=1, le=100)] = 2

    def segment(self, blob: Blob) -> np.ndarray:
        """Which pixels are lesion, bool `h x w`."""
        kind = np.where(blob.level >= self.initial_level, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(
            np.uint8
        )
        kind[~blob.in_box] = cv2.GC_BGD
        kind[blob.seed_mask] = cv2.GC_FGD
        grey = np.clip(20 + 200 * blob.level, 0, 255).astype(
            np.uint8
        )  # with room below the median and above the hottest place
        cv2.setRNGSeed(0)  # it clusters from random starts
        colour, mixtures = np.dstack([grey] * 3), np.zeros((2, 1, 65))
        cv2.grabCut(
            colour,
            kind,
            (0, 0, 0, 0),
            mixtures[0],
            mixtures[1],
            self.iterations,
            cv2.GC_INIT_WITH_MASK,
        )
        return np.isin(kind, (cv2.GC_FGD, cv2.GC_PR_FGD))


@validated
@dataclass(frozen=True, kw_only=True)
class RandomWalkerSegmenter(ClassicalSegmenter):
    """Random walker (Grady 2006) of scikit-image: to which seeds a walker from a pixel comes first, lesion's or background's.

    Args:
        beta: How much a step in brightness hinders it.

    Raises:
        Refusal: a number that is impossible.
    """

    beta: NonNegative = 200.0

    def segment(self, blob: Blob) -> np.ndarray:
        """Which pixels are lesion, bool `h x w`."""
        around = ~blob.in_box
        if not around.any():  # the box is the image
            around[[0, -1]] = around[:, [0, -1]] = True
        seeds = np.where(blob.seed_mask, 1, np.where(around, 2, 0))
        if seeds.all():
            return blob.seed_mask
        return random_walker(np.clip(blob.level, -0.5, 1.2), seeds, beta=self.beta, mode="bf") == 1
