"""Labels of a manifest as numbers: an int or a list per row becomes one 0/1 per row and class."""

from typing import Any

import numpy as np

from datamodules.cache import ImageCache
from datamodules.manifest import Manifest
from datamodules.refusal import ManifestError


def label_matrix(manifest: Manifest) -> np.ndarray | None:
    """float32 `N x classes` of 0 and 1, or None where the manifest has no column `label`.

    A list is multi-hot. An int is 0 or 1 where there is one class, else the number of the only
    class that holds.

    Raises:
        ManifestError: a label is missing, of another kind than the first, or names no class.
    """
    if "label" not in manifest.rows:
        return None
    labels, ids = manifest.rows["label"].tolist(), manifest.rows["id"].tolist()
    several = [isinstance(label, list | tuple) for label in labels]
    if any(several) and not all(several):
        odd = ids[several.index(not several[0])]
        raise ManifestError(
            f"the label of '{odd}' is of another kind than the first; write all as ints, or all as"
            " lists"
        )
    return np.stack(
        [
            _label_row(label, id, len(manifest.classes))
            for label, id in zip(labels, ids, strict=True)
        ]
    )


def is_multiclass(manifest: Manifest) -> bool:
    """Return True if each image shows one of several classes, that is, if labels are ints."""
    return (
        "label" in manifest.rows
        and len(manifest.classes) > 1
        and not isinstance(manifest.rows["label"].iat[0], list | tuple)
    )


def present_classes(manifest: Manifest, cache: ImageCache) -> np.ndarray:
    """Return the classes a row truly shows, bool `N x classes`, by masks if any, else by label."""
    if cache.has_masks:
        return np.asarray(cache.areas) > 0
    labels = label_matrix(manifest)
    return np.zeros((len(manifest), len(manifest.classes)), bool) if labels is None else labels > 0


def _label_row(label: Any, id: str, classes: int) -> np.ndarray:
    target = np.zeros(classes, np.float32)
    if isinstance(label, list | tuple):
        if len(label) != classes or not set(label) <= {0, 1}:
            raise ManifestError(
                f"the label of '{id}' is {label}; give one 0 or 1 for each of the {classes} classes"
                " (datamodule.classes names them)"
            )
        target[:] = label
        return target
    try:
        number = int(label)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or number != float(label) or number >= max(2, classes):
        raise ManifestError(
            f"the label of '{id}' is {label!r}; give a whole number from 0 to {max(2, classes) - 1}"
            " (datamodule.classes names more)"
        )
    if classes > 1:
        target[number] = 1
    else:
        target[0] = number
    return target
