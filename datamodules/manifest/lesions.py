"""Sizes of the lesions of a data set, and which of them a network can still see."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from datamodules.formats.image_cache import ImageCache
from datamodules.formats.kept_result import SUFFIX, load_result, store_result
from datamodules.image_size import ImageSize

FEW_PIXELS = (16, 4)  # lesions below these areas on the network's canvas are counted
VISIBLE_FRACTION = 0.95  # fraction of the lesions that a recommended image size keeps
MULTIPLE = 32  # of image sizes


@dataclass(frozen=True)
class Lesions:
    """Connected parts of the masks of a data set, at each image's own size.

    Attributes:
        rows: Row of each lesion.
        classes: Channel of each lesion.
        areas: Area of each lesion in pixels.
    """

    rows: np.ndarray
    classes: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class LesionVisibility:
    """Sizes of the lesions on the network's canvas.

    Attributes:
        lesions: Number of lesions.
        below: Number of lesions below each area of FEW_PIXELS at the image size.
        needed: Smallest square image size, a multiple of 32, at which VISIBLE_FRACTION of the
            lesions have at least the first area of FEW_PIXELS; None without lesions.
    """

    lesions: int
    below: dict[int, int]
    needed: int | None

    def describe(self, image_size: ImageSize) -> str:
        """Return a sentence about the lesions that the network will not see."""
        if not self.lesions:
            return "no mask"
        few, tiny = FEW_PIXELS
        sentence = (
            f"{self.below[few]:,} of {self.lesions:,} areas of masks cover fewer than {few} pixels"
            f" at image_size={image_size}, {self.below[tiny]:,} of them fewer than {tiny}"
        )
        if self.below[few] > (1 - VISIBLE_FRACTION) * self.lesions:
            sentence += (
                f"; image_size={self.needed} would keep {VISIBLE_FRACTION:.0%} of them above {few}"
            )
        return sentence


def find_lesions(cache: ImageCache, classes: int) -> Lesions:
    """Find the connected parts of all masks; the result is kept in the cache's folder."""
    stored = cache.folder / f"lesions{SUFFIX}"
    kept = load_result(stored)
    if kept is not None:
        return Lesions(*np.array(kept, np.int64).reshape(3, -1))
    covered = np.flatnonzero(np.asarray(cache.areas).any(1)).tolist()

    def parts(row: int) -> list[tuple[int, int, int]]:
        """Return row, channel and area of each lesion of an image."""
        truth = cache.truth(row, classes)
        return [
            (row, channel, area)
            for channel in range(classes)
            for area in component_areas(truth[..., channel])
        ]

    with ThreadPoolExecutor() as pool:
        found = [lesion for lesions in pool.map(parts, covered) for lesion in lesions]
    table = np.array(found, np.int64).reshape(-1, 3).T
    store_result(stored, table.tolist())
    return Lesions(*table)


def component_areas(mask: np.ndarray) -> list[int]:
    """Return the area in pixels of each part of a 0/1 mask `H x W`; diagonal neighbors connect."""
    if not mask.any():
        return []
    _, _, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(mask), connectivity=8)
    return stats[1:, cv2.CC_STAT_AREA].tolist()


def lesion_visibility(
    lesions: Lesions, sizes: np.ndarray, image_size: ImageSize
) -> LesionVisibility:
    """Compute how large the lesions are on the network's canvas.

    Args:
        lesions: The lesions.
        sizes: Height and width of each image in pixels, `N x 2`.
        image_size: Size of the network's input.
    """
    if not len(lesions):
        return LesionVisibility(0, {few: 0 for few in FEW_PIXELS}, None)
    own = sizes[lesions.rows].astype(np.float64)
    scale = np.minimum(image_size.height / own[:, 0], image_size.width / own[:, 1])
    on_canvas = lesions.areas * scale**2
    # the side of a square canvas on which each lesion has just the first area
    needed = own.max(1) * np.sqrt(FEW_PIXELS[0] / lesions.areas)
    side = float(np.quantile(needed, VISIBLE_FRACTION, method="inverted_cdf"))
    below = {few: int((on_canvas < few).sum()) for few in FEW_PIXELS}
    return LesionVisibility(len(lesions), below, max(MULTIPLE, -int(-side // MULTIPLE) * MULTIPLE))


def extreme_rows(areas: np.ndarray, sizes: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """Return the rows with the smallest and with the largest masks, as fractions of the image.

    Args:
        areas: Pixels of each class, `N x classes`; rows without a mask do not count.
        sizes: Height and width of each image, `N x 2`.
        count: Rows of each kind.
    """
    share = areas.sum(1) / sizes.astype(np.int64).prod(1)
    shown: Sequence[int] = np.flatnonzero(share > 0).tolist()
    order = sorted(shown, key=lambda row: (share[row], row))
    return order[:count], order[::-1][:count]
