"""Segmenters of the lesion in a box without a network: GrabCut and random walker."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field
from scipy import ndimage
from skimage.segmentation import random_walker

from datamodules.arguments import Fraction, NonNegativeFloat, config_dataclass
from weak_supervision.segmenters.base import Masks, box_to_slices

MIN_CONTRAST = 0.5  # gray levels above the background; less is a rounding error


@dataclass(frozen=True)
class BoxCrop:
    """Crop of the image for one box, shrunk if the box is large.

    Attributes:
        gray: Float32 `h x w`.
        in_box: Bool `h x w`, the pixels of the box.
        peak: Float x, y: the peak in pixels of `gray`, pixel centers at whole numbers.
        scale: Pixels of `gray` per pixel of the image.
        window: Rows and columns of the image that the crop shows.
    """

    gray: np.ndarray
    in_box: np.ndarray
    peak: np.ndarray
    scale: float
    window: tuple[slice, slice]

    def resize_to_window(self, mask: np.ndarray) -> np.ndarray:
        """Resize a mask of `gray` to the size of the window in the image."""
        rows, columns = self.window
        size = columns.stop - columns.start, rows.stop - rows.start
        return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5


@dataclass(frozen=True)
class Blob:
    """Bright blob among its surroundings.

    Attributes:
        level: Float32 `h x w`: 0 is the background, 1 the blob's strongest pixel; other pixels may
            be brighter.
        in_box: Bool `h x w`, the pixels of the box.
        peak_index: Row and column of the blob's strongest pixel.
        seed_mask: Bool `h x w`, the pixels of the box that are nearly as bright, and connected with
            the strongest one.
    """

    level: np.ndarray
    in_box: np.ndarray
    peak_index: tuple[int, int]
    seed_mask: np.ndarray


def crop_box(
    image: np.ndarray, box: tuple[slice, slice], point: np.ndarray, context: int, working_size: int
) -> BoxCrop:
    """Crop a box with its surroundings.

    Args:
        image: Uint8 `H x W`.
        box: Rows and columns of the box; neither is empty.
        point: Float x, y: the peak in pixels of the image.
        context: Pixels around the box that are cropped too, within the image.
        working_size: Longer side in pixels to which a larger box is shrunk.
    """
    rows, columns = box
    scale = min(1.0, working_size / max(rows.stop - rows.start, columns.stop - columns.start))
    around = int(np.ceil(context / scale))
    top, left = max(0, rows.start - around), max(0, columns.start - around)
    window = (
        slice(top, min(image.shape[0], rows.stop + around)),
        slice(left, min(image.shape[1], columns.stop + around)),
    )
    gray = image[window].astype(np.float32)
    inside = np.zeros(gray.shape, np.uint8)
    inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = 1
    size = [max(1, round(side * scale)) for side in gray.shape[::-1]]
    peak = (np.asarray(point, float) - (left, top)) * np.divide(size, gray.shape[::-1]) - 0.5
    if scale == 1:
        return BoxCrop(gray, inside > 0, peak, scale, window)
    small = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.float32)
    return BoxCrop(
        small,
        np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)) > 0,
        peak,
        scale,
        window,
    )


def find_blob(
    crop: BoxCrop,
    gray: np.ndarray,
    reach: float,
    blob_sigma: float,
    background_quantile: float,
    sure: float,
) -> Blob | None:
    """Find the brightest blob near the peak; None if no pixel of the box exceeds its surroundings.

    A difference of two Gaussians detects blobs, so that a broad bright structure at the edge of the
    box does not win over a faint small one.

    Args:
        crop: Crop with the places of the box and the peak.
        gray: Float32 `h x w`: the crop's gray values, denoised.
        reach: Standard deviation in pixels of the Gaussian around the peak that weights the blobs.
        blob_sigma: Width in pixels of the Gaussian that is subtracted.
        background_quantile: Quantile of all pixels that is level 0.
        sure: Smallest level of the pixels of `Blob.seed_mask`.
    """
    contrast = gray - np.quantile(gray, background_quantile)
    blobs = cv2.GaussianBlur(gray, (0, 0), 1) - cv2.GaussianBlur(gray, (0, 0), blob_sigma)
    bright = crop.in_box & (contrast > MIN_CONTRAST) & (blobs > 0)
    if not bright.any():
        return None
    y, x = np.ogrid[: gray.shape[0], : gray.shape[1]]
    near = -((x - crop.peak[0]) ** 2 + (y - crop.peak[1]) ** 2) / (2 * reach**2)
    weighed = np.where(
        bright, np.log(np.where(bright, blobs, 1)) + near, -np.inf
    )  # the product's logarithm: far away a Gaussian is 0
    row, column = map(int, np.unravel_index(weighed.argmax(), weighed.shape))
    level = (contrast / contrast[row, column]).astype(np.float32)
    return Blob(
        level,
        crop.in_box,
        (row, column),
        connected_component((level >= sure) & crop.in_box, (row, column)),
    )


def connected_component(mask: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a bool `h x w` mask that are connected with the seed, sides touching."""
    pieces, _ = ndimage.label(mask)
    return (pieces == pieces[seed]) & mask


def compute_contrast(gray: np.ndarray, mask: np.ndarray) -> float:
    """Compute (mean inside - mean outside) / (their sum), 0 to 1; 0 if either has no pixel."""
    if mask.all() or not mask.any():
        return 0.0
    within, without = float(gray[mask].mean()), float(gray[~mask].mean())
    return max(0.0, (within - without) / max(within + without, 1e-6))


ContrastFraction = Annotated[float, Field(ge=0.01, le=1)]  # fraction of the contrast


@config_dataclass
class ClassicalSegmenter(ABC):
    """Base class of segmenters without weights, which segment one bright blob in each box.

    Each box is cropped with its surroundings. A mask is one piece without holes. It is cut at the
    border of its box, unless `margin` allows more. Its score is its contrast, (mean gray value
    inside - outside) / (their sum), 0 to 1, over the crop. If nothing in the box is brighter than
    its surroundings, the mask is empty.

    Args:
        sigma: Standard deviation in pixels of the Gaussian that reduces the counting noise
            beforehand.
        reach: Distance from the peak at which the lesion may lie, as a share of the box's longer
            side: the lesion is where the strength of a blob times a Gaussian of this width around
            the peak is greatest, because the cells of a heat map are coarse.
        blob: Width in pixels of the Gaussian that is subtracted from one of width 1; blobs are what
            is left.
        context: Pixels around the box that are cropped too; they count as background.
        background: Quantile of the crop that is the background level; contrast is counted from
            there to the blob's strongest pixel.
        sure: Share of that contrast above which pixels connected with the strongest one are
            certainly lesion.
        margin: Growth of the box on each side, as a share of its width or height.
        working_size: Pixels of the longer side to which a larger box is shrunk; then `sigma`,
            `blob` and `context` count the shrunk pixels.

    Raises:
        UserError: a number that is impossible.
    """

    sigma: Annotated[float, Field(ge=0, le=100)] = 1.5
    reach: Annotated[float, Field(ge=0.01, le=100)] = 0.35
    blob: Annotated[float, Field(ge=1.1, le=100)] = 4.0
    context: Annotated[int, Field(ge=0, le=1000)] = 8
    background: Fraction = 0.4
    sure: ContrastFraction = 0.8
    margin: Annotated[float, Field(ge=0, le=10)] = 0.0
    working_size: Annotated[int, Field(ge=8, le=2048)] = 64

    def __call__(self, image: np.ndarray, boxes: np.ndarray, points: np.ndarray) -> Masks:
        """Segment each box, see `Segmenter`."""
        found = Masks(np.zeros((len(boxes), *image.shape), bool), np.zeros(len(boxes), np.float32))
        for i, (box, point) in enumerate(zip(boxes, points, strict=True)):
            found.scores[i] = self._segment_box(found.masks[i], image, box, point)
        return found

    @abstractmethod
    def segment(self, blob: Blob) -> np.ndarray:
        """Return the lesion's pixels, bool `h x w`."""

    def _segment_box(
        self, mask: np.ndarray, image: np.ndarray, box: np.ndarray, point: np.ndarray
    ) -> float:
        """Write one box's mask into `mask` and return its score."""
        rows, columns = box_to_slices(box, image.shape, self.margin)
        if rows.start == rows.stop or columns.start == columns.stop:
            return 0.0
        part = crop_box(image, (rows, columns), point, self.context, self.working_size)
        gray = cv2.GaussianBlur(part.gray, (0, 0), self.sigma) if self.sigma > 0 else part.gray
        reach = max(
            0.5, self.reach * part.scale * max(box[2:] - box[:2])
        )  # half a pixel even of a box that is a point
        spot = find_blob(part, gray, reach, self.blob, self.background, self.sure)
        if spot is None:
            return 0.0
        found = ndimage.binary_fill_holes(
            connected_component(self.segment(spot) & spot.in_box, spot.peak_index)
        )
        top, left = part.window[0].start, part.window[1].start
        mask[rows, columns] = part.resize_to_window(found)[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        return compute_contrast(gray, found)


@config_dataclass
class GrabCutSegmenter(ClassicalSegmenter):
    """GrabCut segmenter (Rother et al. 2004) by OpenCV.

    It fits mixtures of the brightness of lesion and background, and finds the cheapest border
    between them.

    Args:
        middle: Share of the contrast above which a pixel is lesion at first.
        iterations: Number of updates of the mixtures and the border.

    Raises:
        UserError: a number that is impossible.
    """

    middle: ContrastFraction = 0.5
    iterations: Annotated[int, Field(ge=1, le=100)] = 2

    def segment(self, blob: Blob) -> np.ndarray:
        """Return the lesion's pixels, bool `h x w`."""
        kind = np.where(blob.level >= self.middle, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        kind[~blob.in_box] = cv2.GC_BGD
        kind[blob.seed_mask] = cv2.GC_FGD
        gray = np.clip(20 + 200 * blob.level, 0, 255).astype(
            np.uint8
        )  # with room below the median and above the hottest place
        cv2.setRNGSeed(0)  # it clusters from random starts
        color, mixtures = np.dstack([gray] * 3), np.zeros((2, 1, 65))
        cv2.grabCut(
            color,
            kind,
            (0, 0, 0, 0),
            mixtures[0],
            mixtures[1],
            self.iterations,
            cv2.GC_INIT_WITH_MASK,
        )
        return np.isin(kind, (cv2.GC_FGD, cv2.GC_PR_FGD))


@config_dataclass
class RandomWalkerSegmenter(ClassicalSegmenter):
    """Random walker segmenter (Grady 2006) by scikit-image.

    A pixel is lesion if a walker from it more probably reaches the lesion's seeds first than the
    background's.

    Args:
        beta: Penalty of differences in brightness; the larger it is, the less a walker crosses
            them.

    Raises:
        UserError: a number that is impossible.
    """

    beta: NonNegativeFloat = 200.0

    def segment(self, blob: Blob) -> np.ndarray:
        """Return the lesion's pixels, bool `h x w`."""
        around = ~blob.in_box
        if not around.any():  # the box is the image
            around[[0, -1]] = around[:, [0, -1]] = True
        seeds = np.where(blob.seed_mask, 1, np.where(around, 2, 0))
        if seeds.all():
            return blob.seed_mask
        return random_walker(np.clip(blob.level, -0.5, 1.2), seeds, beta=self.beta, mode="bf") == 1
