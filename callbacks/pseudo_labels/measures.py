"""What is measured of a pseudo mask: size, pieces, distance from the peak, and how it agrees with the heat map."""

import numpy as np
from scipy import ndimage

from callbacks.pseudo_labels.masks import box_to_slices

EIGHT_CONNECTED = np.ones((3, 3), bool)  # pixels that touch by a corner are one piece


def mask_features(
    mask: np.ndarray, box: np.ndarray, point: np.ndarray, heat: np.ndarray
) -> dict[str, float]:
    """What one mask says by itself; NaN where it is empty, but for `area` and `components`, which are then 0.

    - `area`: share of the image.
    - `components`: pieces, corners touching.
    - `largest`: share of the mask that its largest piece has.
    - `distance`: from the peak to the nearest edge of a pixel, in longer sides of the box; 0 where
        the peak is inside.
    - `heat`: mean within the mask.
    - `agreement`: that minus the mean of the rest of the box; minus 0 where the mask fills the box.

    Args:
        mask: Bool `H x W`.
        box: Float `4`.
        point: Float `2`, the peak.
        heat: Float `H x W`.
    """
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return {"area": 0.0, "components": 0.0} | dict.fromkeys(
            ("largest", "distance", "heat", "agreement"), np.nan
        )
    pieces, number = ndimage.label(
        mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], EIGHT_CONNECTED
    )
    aside = [
        np.maximum(np.abs(place + 0.5 - centre) - 0.5, 0)
        for place, centre in ((columns, point[0]), (rows, point[1]))
    ]
    part = box_to_slices(box, mask.shape)
    rest = heat[part][~mask[part]]
    inside = float(heat[rows, columns].mean())
    return {
        "area": len(rows) / mask.size,
        "components": float(number),
        "largest": np.bincount(pieces.ravel())[1:].max() / len(rows),
        "distance": float(np.hypot(*aside).min() / max(box[2:] - box[:2])),
        "heat": inside,
        "agreement": inside - (float(rest.mean()) if len(rest) else 0.0),
    }
