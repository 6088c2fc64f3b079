"""What can be said to be wrong before training: numbers, folders, splits without a lesion."""

from pathlib import Path

import numpy as np

from datamodules.cache import ImageCache
from datamodules.labels import exclusive, shown
from datamodules.leaks import refuse_leaks
from datamodules.manifest import SPLITS, Manifest
from datamodules.refusal import ManifestError, Refusal


def check_image_size(image_size: int, where: str) -> None:
    """Refuses a side that the networks cannot halve five times.

    Args:
        image_size: Side of the network's square input in pixels.
        where: The key it was given by.

    Raises:
        Refusal: with the nearest value that can.
    """
    if image_size % 32 or image_size <= 0:
        nearest = max(32, round(image_size / 32) * 32)
        raise Refusal(f"{where}={image_size} is not a multiple of 32, which the networks need; try {where}={nearest}")


def check_numbers(evaluation_size: int | str, folds: int, fold: int | None) -> None:
    """Refuses an evaluation grid and folds that cannot be.

    Raises:
        Refusal: with a value that can.
    """
    if evaluation_size != "native" and not (isinstance(evaluation_size, int) and evaluation_size > 0):
        raise Refusal(f"evaluation_size={evaluation_size} is neither native nor a number of pixels; take evaluation_size=native")
    if folds == 1 or folds < 0:
        raise Refusal(f"folds={folds} makes no out-of-fold report; take folds=2 or more, or folds=0 for the data's own split")
    if folds and not 0 <= (fold or 0) < folds:
        raise Refusal(f"fold={fold} is none of the {folds} folds; take fold=0 to fold={folds - 1}")


def check_root(root: Path) -> None:
    """Refuses a data folder that is not there or empty.

    Raises:
        ManifestError: with the key that names it.
    """
    if not root.is_dir():
        raise ManifestError(f"datamodule.root={root} is not a folder; set DATA_ROOT, or datamodule.root=... on the command line")
    if not any(root.iterdir()):
        raise ManifestError(f"datamodule.root={root} is an empty folder; put the data set there, or set datamodule.root=...")


def check_splits(root: Path, manifest: Manifest, cache: ImageCache, allow_leaks: bool) -> list[str]:
    """Refuses a split in which nothing is shown, one in which a class is absent, and what stands in two splits.

    Args:
        root: The data set, for the sentence.
        manifest: Rows with their final split.
        cache: Their content.
        allow_leaks: Go on where a group or a file stands in two splits.

    Returns:
        The leaks that were allowed.

    Raises:
        ManifestError: names the split, or the files.
    """
    rows, shows = manifest.rows, shown(manifest, cache)
    for name in SPLITS:
        of_split = shows[rows["split"] == name]
        if "mask" in rows and not of_split.any():
            raise ManifestError(f"{root}: no image of split {name} has a mask left; annotate some, or split anew with datamodule.split=group")
        if "label" in rows and "mask" not in rows and len(of_split):
            _refuse_absent_class(root, name, manifest, of_split)
    return refuse_leaks(rows, cache.digests, allow_leaks)


def _refuse_absent_class(root: Path, split: str, manifest: Manifest, shows: np.ndarray) -> None:
    """One class or exclusive ones must occur in every split; of several independent findings a rare one may miss val or test."""
    independent = len(manifest.classes) > 1 and not exclusive(manifest)
    for name, column in zip(manifest.classes, shows.T, strict=True):
        if (not column.any() and not (independent and split != "train")) or (column.all() and len(manifest.classes) == 1):
            what = f"is without {name}" if column.all() else f"shows {name}"
            mend = "add some, or split anew with datamodule.split=group and another seed"
            raise ManifestError(f"{root}: no image of split {split} {what} ({len(column)} images); {mend}")
