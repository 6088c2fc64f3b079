"""The pointing game: does a heat map's maximum lie on a lesion, and how often would a blind guess?"""

import numpy as np
from scipy import ndimage

from callbacks.pseudo_labels.truth import Detections, GroundTruth

Point = tuple[float, float]


def pointing_game(truth: GroundTruth, detections: Detections, tolerance: float) -> dict[str, float]:
    """What one image adds to the pointing game (Zhang et al. 2018, Top-down neural attention by excitation backprop).

    Args:
        truth: Of the image.
        detections: Its peak counts.
        tolerance: Pixels beside the lesion that still count; the paper has 15 on photographs of
            about 500 pixels.

    Returns:
        `pointing_box` and `pointing_mask`, 0 or 1 (no peak is a miss), NaN where there is no lesion
        of that kind; with `_random` the chance of a uniformly random pixel, with `_centre` what the
        picture's centre scores.
    """
    found = {}
    boxes = truth.lesions
    for kind, target in (
        (
            "box",
            (
                None
                if boxes is None or not len(boxes)
                else rasterize_boxes(boxes, truth.height, truth.width, tolerance)
            ),
        ),
        (
            "mask",
            (
                None
                if truth.mask is None or not truth.mask.any()
                else dilate_mask(truth.mask, tolerance)
            ),
        ),
    ):
        centre = (truth.width / 2, truth.height / 2)
        name = f"pointing_{kind}"
        found[name] = (
            np.nan
            if target is None
            else float(detections.peak is not None and contains(target, detections.peak))
        )
        found[f"{name}_random"] = np.nan if target is None else float(target.mean())
        found[f"{name}_centre"] = np.nan if target is None else float(contains(target, centre))
    return found


def contains(target: np.ndarray, point: Point) -> bool:
    """Whether the pixel of (x, y) is set in a bool `H x W`; beyond the picture (on padding) nothing is."""
    column, row = np.floor(point).astype(int)
    return bool(
        0 <= row < target.shape[0] and 0 <= column < target.shape[1] and target[row, column]
    )


def rasterize_boxes(
    boxes: np.ndarray, height: int, width: int, tolerance: float = 0.0
) -> np.ndarray:
    """Bool `height x width`: pixels whose centre lies in a box, or so many pixels from it."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    near = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in boxes:
        across, down = (
            np.maximum(0, np.maximum(low - at, at - high))
            for low, at, high in ((x1, x, x2), (y1, y, y2))
        )
        near |= np.hypot(down[:, None], across[None]) <= tolerance
    return near


def dilate_mask(mask: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Bool `H x W`: pixels of a mask, and those so many pixels (centre to centre) from it."""
    return (
        mask.astype(bool)
        if tolerance == 0
        else ndimage.distance_transform_edt(~mask.astype(bool)) <= tolerance
    )
