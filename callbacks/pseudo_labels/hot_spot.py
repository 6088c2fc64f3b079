"""A box with its surroundings, cut out of the image, and the blob in it that is taken for the lesion."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

MIN_CONTRAST = 0.5  # grey levels above the background; less is rounding


@dataclass(frozen=True)
class BoxCrop:
    """What was cut out of the image for one box, shrunk where the box is large.

    Attributes:
        gray: Float32 `h x w`.
        in_box: Bool `h x w`, the pixels of the box.
        peak: Float x, y: the peak in pixels of `gray`, pixel centres at whole numbers.
        scale: Pixels of `gray` per pixel of the image.
        window: Rows and columns of the image that it shows.
    """

    gray: np.ndarray
    in_box: np.ndarray
    peak: np.ndarray
    scale: float
    window: tuple[slice, slice]

    def resize_to_window(self, mask: np.ndarray) -> np.ndarray:
        """A mask of `grey` at the size of the window in the image."""
        rows, columns = self.window
        size = columns.stop - columns.start, rows.stop - rows.start
        return cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5


@dataclass(frozen=True)
class Blob:
    """A bright place among its surroundings.

    Attributes:
        level: Float32 `h x w`: 0 is the background, 1 the blob's strongest place; other pixels may
            be brighter.
        in_box: Bool `h x w`, the pixels of the box.
        peak_index: Row and column of the blob's strongest place.
        seed_mask: Bool `h x w`, the pixels of the box that are nearly as bright, and connected with that
            place.
    """

    level: np.ndarray
    in_box: np.ndarray
    peak_index: tuple[int, int]
    seed_mask: np.ndarray


def crop_box(
    image: np.ndarray, box: tuple[slice, slice], point: np.ndarray, context: int, working_size: int
) -> BoxCrop:
    """Cuts a box out of the image.

    Args:
        image: Uint8 `H x W`.
        box: Its rows and columns, some of each.
        point: Float x, y: the peak in pixels of the image.
        context: Pixels of the result around the box, where the image has them.
        working_size: Pixels of its longer side to which a larger box is shrunk.
    """
    rows, columns = box
    scale = min(1.0, working_size / max(rows.stop - rows.start, columns.stop - columns.start))
    around = int(np.ceil(context / scale))
    top, left = max(0, rows.start - around), max(0, columns.start - around)
    window = (
        slice(top, min(image.shape[0], rows.stop + around)),
        slice(left, min(image.shape[1], columns.stop + around)),
    )
    grey = image[window].astype(np.float32)
    inside = np.zeros(grey.shape, np.uint8)
    inside[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = 1
    size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    peak = (np.asarray(point, float) - (left, top)) * np.divide(size, grey.shape[::-1]) - 0.5
    if scale == 1:
        return BoxCrop(grey, inside > 0, peak, scale, window)
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
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
    seed_level: float,
) -> Blob | None:
    """The brightest blob near the peak; None where nothing of the box is brighter than its surroundings.

    Blobs are what a difference of two Gaussians shows, so that a broad bright structure at the edge
    of the box does not win over a faint small one.

    Args:
        crop: Where the box and the peak are.
        gray: Float32 `h x w`: its grey values, without noise.
        reach: Standard deviation in pixels of the Gaussian around the peak that weighs the blobs.
        blob_sigma: Of the Gaussian whose result is subtracted.
        background_quantile: Quantile of all pixels that is level 0.
        seed_level: Level from which on a pixel that is connected with the place belongs to
            `HotSpot.sure`.
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
        connected_component((level >= seed_level) & crop.in_box, (row, column)),
    )


def connected_component(mask: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """The pixels of a bool `h x w` mask that are connected with one of them, sides touching."""
    pieces, _ = ndimage.label(mask)
    return (pieces == pieces[seed]) & mask


def compute_contrast(gray: np.ndarray, mask: np.ndarray) -> float:
    """(Mean within the mask - mean without) / (their sum), 0 to 1; 0 where one of them has no pixel."""
    if mask.all() or not mask.any():
        return 0.0
    within, without = float(gray[mask].mean()), float(gray[~mask].mean())
    return max(0.0, (within - without) / max(within + without, 1e-6))
