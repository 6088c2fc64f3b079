"""Checks of true lesions, the columns `boxes` and `true_mask`, before anything expensive starts."""

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.images import image_size
from datamodules.manifest import Manifest
from datamodules.refusal import ManifestError


def check_ground_truth(manifest: Manifest) -> None:
    """Refuse malformed boxes and true masks of another size than their image; reads only headers.

    Raises:
        ManifestError: names the image.
    """
    rows: Any = manifest.rows
    for name in ("boxes", "physiological"):
        for id, boxes in zip(rows["id"], rows[name], strict=True) if name in rows else ():
            _check_boxes(str(id), name, boxes)
    for id, image, mask in (
        zip(rows["id"], rows["image"], rows["true_mask"], strict=True)
        if "true_mask" in rows
        else ()
    ):
        if isinstance(mask, str) and image_size(Path(mask)) != image_size(Path(image)):
            (height, width), (rows_of, columns) = image_size(Path(mask)), image_size(Path(image))
            raise ManifestError(
                f"the true mask of '{id}' is {height} x {width} pixels, its image {rows_of} x"
                f" {columns}; export them together"
            )


def _check_boxes(id: str, name: str, boxes: Any) -> None:
    if boxes is None or (isinstance(boxes, float) and np.isnan(boxes)):
        return
    mend = (
        "write a list of [x1, y1, x2, y2] in pixels of the image, [] for none, or leave the cell"
        " empty where nothing is known"
    )
    try:
        numbers = (
            np.asarray(boxes, np.float64).reshape(len(boxes), 4) if len(boxes) else np.zeros((0, 4))
        )
    except (TypeError, ValueError) as error:
        raise ManifestError(f"the {name} of '{id}' are {str(boxes)[:60]}; {mend}") from error
    if not np.isfinite(numbers).all() or (numbers[:, :2] > numbers[:, 2:]).any():
        raise ManifestError(
            f"the {name} of '{id}' hold a corner that is no number, or lies before its other corner"
            f" ({str(boxes)[:60]}); {mend}"
        )
