"""The true local maxima of a heat map, and the regions around them."""

import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima

from datamodules.content import ContentBox

EIGHT_CONNECTED = np.ones((3, 3))  # pixels that share a side or a corner are connected


def find_peaks(heat: np.ndarray, content: ContentBox) -> tuple[np.ndarray, np.ndarray]:
    """Peaks inside the picture's place, highest first.

    A peak is a connected set of equally high pixels above 0 without a higher one beside it, so a
    plateau is one peak, at its middle. Peaks of the whole canvas are looked for, and those on the
    padding left out: a slope that rises into the padding is no peak.

    Args:
        heat: `H x W` at canvas size. The same number everywhere has no peak.
        content: The picture's place on the canvas.

    Returns:
        float64 `N x 2` (x, y) in canvas pixels, the centre of the first pixel being (.5, .5), and
        float64 `N`, the heat there.
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
    """Which of the peaks `N x 2`, highest first, are that far in x or y from all that are kept before them: indices."""
    kept: list[int] = []
    for i, peak in enumerate(peaks):
        if not kept or np.abs(peaks[kept] - peak).max(1).min() >= min_distance:
            kept.append(i)
    return np.array(kept, int)


def find_region_around_peak(peak: np.ndarray, heat: np.ndarray, min_height: float) -> np.ndarray:
    """What encloses the connected pixels around a peak (x, y) that are at least so high: (x1, y1, x2, y2), edges.

    Args:
        peak: In pixels of `heat`.
        heat: `h x w`.
        min_height: Height; pixels of 0 never belong.
    """
    labels, _ = ndimage.label((heat >= min_height) & (heat > 0), EIGHT_CONNECTED)
    x, y = np.minimum(peak.astype(int), [heat.shape[1] - 1, heat.shape[0] - 1])
    if not labels[y, x]:  # the middle of a hollow plateau
        return np.array([x, y, x + 1, y + 1], float)
    rows, columns = ndimage.find_objects(labels)[labels[y, x] - 1]
    return np.array([columns.start, rows.start, columns.stop, rows.stop], float)
