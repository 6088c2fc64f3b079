"""Checks of a data set before training, and the report of what was cleaned."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.arguments import NetworkInputSize, check_value
from datamodules.errors import ManifestError, UserError
from datamodules.formats.gray_levels import KEPT_AS_STORED, TRANSPARENT, TURNED, Window
from datamodules.formats.image_cache import ImageCache
from datamodules.image_size import ImageSize
from datamodules.manifest.leakage import check_leakage
from datamodules.manifest.manifest import (
    SPLITS,
    Manifest,
    get_crop,
    is_multiclass,
    present_classes,
)

MAX_EXAMPLES = 5


class CleaningReport:
    """Counter of repairs and omissions by reason, with the first few files of each.

    Example:
        report.count("exact duplicate annotation dropped", "train/a.jpg")
    """

    def __init__(self) -> None:
        self._files: dict[str, list[str]] = defaultdict(list)

    def count(self, reason: str, file: str) -> None:
        """Add one case of `reason`."""
        self._files[reason].append(file)

    def __getitem__(self, reason: str) -> int:
        return len(self._files.get(reason, []))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return reason -> {count, examples}, the most frequent reason first."""
        reasons = sorted(self._files.items(), key=lambda item: (-len(item[1]), item[0]))
        return {
            reason: {"count": len(files), "examples": files[:MAX_EXAMPLES]}
            for reason, files in reasons
        }


def check_ground_truth(manifest: Manifest) -> None:
    """Refuse malformed boxes and true masks of another size than their image; reads only headers.

    Raises:
        ManifestError: A box or a mask is wrong; the message names the image.
    """
    rows: Any = manifest.rows
    for name in ("boxes", "physiological"):
        for id, boxes in zip(rows["id"], rows[name], strict=True) if name in rows else ():
            _check_true_boxes(str(id), name, boxes)
    for id, image, mask in (
        zip(rows["id"], rows["image"], rows["true_mask"], strict=True)
        if "true_mask" in rows
        else ()
    ):
        if not isinstance(mask, str):
            continue
        height, width = manifest.reader.read_size(Path(mask))
        rows_of, columns = manifest.reader.read_size(Path(image), (height, width))
        if (height, width) != (rows_of, columns):
            raise ManifestError(
                f"the true mask of '{id}' is {height} x {width} pixels, its image {rows_of} x"
                f" {columns}; export them together"
            )


def _check_true_boxes(id: str, name: str, boxes: Any) -> None:
    if boxes is None or (isinstance(boxes, float) and np.isnan(boxes)):
        return
    fix = (
        "write a list of [x1, y1, x2, y2] in pixels of the image, [] for none, or leave the cell"
        " empty if boxes are unknown"
    )
    try:
        numbers = (
            np.asarray(boxes, np.float64).reshape(len(boxes), 4) if len(boxes) else np.zeros((0, 4))
        )
    except (TypeError, ValueError) as error:
        raise ManifestError(f"the {name} of '{id}' are {str(boxes)[:60]}; {fix}") from error
    if not np.isfinite(numbers).all() or (numbers[:, :2] > numbers[:, 2:]).any():
        raise ManifestError(
            f"the {name} of '{id}' hold a corner that is not a number, or corners in the wrong"
            f" order"
            f" ({str(boxes)[:60]}); {fix}"
        )


def drop_straddling_copies(
    rows: pd.DataFrame, split: str, cleaning: CleaningReport
) -> pd.DataFrame:
    """Drop copies of an original that is in test too, or in val if the copy is in train.

    Roboflow exports hold several augmented copies of an image. They are dropped only for
    `split=folders`; a split by group keeps all copies together anyway.

    Args:
        rows: Rows with `id`, `group` (the original) and `split`.
        split: Value of `datamodule.split`.
        cleaning: Report to which the copies are added.
    """
    rank = rows["split"].map({"test": 0, "val": 1, "train": 2})
    straddling = rank > rank.groupby(rows["group"]).transform("min")
    if split == "folders":
        for name in rows["id"][straddling]:
            cleaning.count("copy of an original that is also in test or val: dropped", name)
        rows = rows[~straddling]
    for group, members in rows.groupby("group"):
        if len(members) > 1:
            cleaning.count("original with several .rf. copies: kept in one split", str(group))
    return rows


BLANK_REASON = "image of nearly one gray value"
NOTE_REASONS = {
    TURNED: "image turned by its EXIF orientation",
    KEPT_AS_STORED: "image whose EXIF orientation was ignored, because its annotation does",
    TRANSPARENT: "image with transparent pixels: placed on black",
}  # by the bits of `SourceImage.notes`
SOFT_EDGES_REASON = "mask with soft edges: cut at 127"


def check_cache_size(cache_size: Any, image_size: ImageSize) -> ImageSize:
    """Return the size at which images are cached; refuse an aspect ratio other than the network's.

    Raises:
        UserError: The size is refused; the message names the key to set.
    """
    if not isinstance(cache_size, int) and list(cache_size) != list(image_size):
        check_value("datamodule.cache_size", cache_size, NetworkInputSize)
    kept = ImageSize.from_config(cache_size)
    if kept.height * image_size.width != kept.width * image_size.height:
        like = (
            ""
            if image_size.width == image_size.height
            else f" of the aspect ratio of image_size=[{image_size.height},{image_size.width}]"
        )
        raise UserError(
            f"datamodule.cache_size={cache_size} is not{like or ' square as image_size is'}; set"
            " datamodule.cache_size=null"
        )
    return kept


def check_folds(folds: int, fold: int | None) -> None:
    """Refuse an impossible number of folds, or a fold that does not exist.

    Raises:
        UserError: A value is refused; the message names values that work.
    """
    if folds == 1:
        raise UserError(
            f"folds={folds} gives no out-of-fold report; set folds=2 or more, or folds=0 for the"
            " data's own split"
        )
    if folds and not 0 <= (fold or 0) < folds:
        raise UserError(
            f"fold={fold} is not one of the {folds} folds; set fold=0 to fold={folds - 1}"
        )


def check_images(
    root: Path,
    manifest: Manifest,
    cache: ImageCache,
    inverted_masks: str,
    cleaning: CleaningReport,
    window: Window | None,
) -> None:
    """Count unusual images and masks in the cache, and refuse the data set if most are unusable.

    Args:
        root: Folder of the data set, for the message.
        manifest: Rows of the cache.
        cache: Decoded images and masks.
        inverted_masks: Value of `datamodule.inverted_masks`.
        cleaning: Report to which the counts are added.
        window: Window that displays images of more than 8 bits; None if there are none.

    Raises:
        ManifestError: Most images show nearly one gray value, or most masks cover most of their
            image.
    """
    sizes = np.asarray(cache.sizes, np.int64).prod(1)
    blank = cache.blank(window)
    count_irregular_images(
        manifest, blank, np.asarray(cache.soft_masks), np.asarray(cache.notes), cleaning
    )
    check_blank_images(root, manifest, blank)
    if inverted_masks == "refuse":
        true_areas = None if cache.true_areas is None else np.asarray(cache.true_areas)
        check_inverted_masks(
            root, manifest, np.asarray(cache.areas) if cache.has_masks else None, true_areas, sizes
        )


def count_irregular_images(
    manifest: Manifest,
    flat: np.ndarray,
    soft: np.ndarray,
    notes: np.ndarray,
    cleaning: CleaningReport,
) -> None:
    """Count images of one gray value, turned or transparent ones, and soft or swapped masks.

    Args:
        manifest: Rows of the data set.
        flat: True for images that show nearly one gray value, bool `N`.
        soft: True for masks that have soft edges, bool `N`.
        notes: See `ImageCache.notes`, `N`.
        cleaning: Report to which the counts are added.
    """
    ids = manifest.rows["id"].astype(str).to_numpy()
    noted = [(reason, (notes & bit) > 0) for bit, reason in NOTE_REASONS.items()]
    for reason, rows in ((BLANK_REASON, flat), (SOFT_EDGES_REASON, soft), *noted):
        for id in ids[rows]:
            cleaning.count(reason, id)
    if manifest.swap_masks and "mask" in manifest.rows:
        for id in ids[manifest.rows["mask"].notna()]:
            cleaning.count("mask whose foreground and background were swapped", id)


def check_blank_images(root: Path, manifest: Manifest, flat: np.ndarray) -> None:
    """Refuse a data set if most of its images show nearly one gray value.

    Raises:
        ManifestError: Most images are blank; the message names the first of them.
    """
    if 2 * np.count_nonzero(flat) > len(flat):
        first = manifest.rows["image"].iat[int(flat.argmax())]
        problem = (
            f"{np.count_nonzero(flat)} of {len(flat)} images show nearly one gray value, such as"
            f" {first}"
        )
        fix = (
            "check datamodule.window if it is set, and DICOMs for a wrong window or rescaling, or"
            " export the files again"
        )
        raise ManifestError(f"{root}: {problem}; {fix}")


def check_inverted_masks(
    root: Path,
    manifest: Manifest,
    areas: np.ndarray | None,
    true_areas: np.ndarray | None,
    sizes: np.ndarray,
) -> None:
    """Refuse masks that cover most of most images: background and lesion are probably swapped.

    Args:
        root: Folder of the data set, for the message.
        manifest: Rows of the data set; rows with a `crop` are not counted, because a lesion may
            well fill the square around it.
        areas: Number of pixels of each class at each image's own size, `N x classes`; None without
            masks.
        true_areas: Number of pixels of the true masks, `N`; None without them.
        sizes: Number of pixels of each image, `N`.

    Raises:
        ManifestError: Most masks cover most of their image; the message names the class, the first
            mask and the key.
    """
    uncropped = np.array([get_crop(manifest, row) is None for row in range(len(manifest))])
    columns = (
        []
        if areas is None
        else [(f"masks of class {name}", areas[:, c]) for c, name in enumerate(manifest.classes)]
    )
    for what, area in [*columns, *([] if true_areas is None else [("true masks", true_areas)])]:
        masked = uncropped & (area > 0)
        most = masked & (2 * area > sizes)
        if np.count_nonzero(most) >= 2 and 2 * np.count_nonzero(most) > np.count_nonzero(masked):
            first = manifest.rows["id"].iat[int(most.argmax())]
            problem = (
                f"{np.count_nonzero(most)} of {np.count_nonzero(masked)} {what} cover most of their"
                f" image, such as '{first}'"
            )
            fix = (
                "set datamodule.inverted_masks=invert if they show the background, or"
                " datamodule.inverted_masks=keep if they are right"
            )
            raise ManifestError(f"{root}: {problem}; {fix}")


def check_splits(root: Path, manifest: Manifest, cache: ImageCache, allow_leaks: bool) -> list[str]:
    """Refuse a split without a lesion or a class, and groups or files that are in two splits.

    Args:
        root: Folder of the data set, for the message.
        manifest: Rows with their final split.
        cache: Decoded images and masks.
        allow_leaks: True to continue although a group or a file is in two splits.

    Returns:
        The leaks that were allowed.

    Raises:
        ManifestError: A split is refused; the message names the split, or the files.
    """
    rows, shows = manifest.rows, present_classes(manifest, cache)
    for name in SPLITS:
        of_split = shows[rows["split"] == name]
        if "mask" in rows and not of_split.any():
            raise ManifestError(
                f"{root}: no image of split {name} has a mask; annotate some, or make a new split"
                " with datamodule.split=group"
            )
        if "label" in rows and "mask" not in rows and len(of_split):
            _check_class_present(root, name, manifest, of_split)
    return check_leakage(rows, cache.digests, allow_leaks)


def _check_class_present(root: Path, split: str, manifest: Manifest, shows: np.ndarray) -> None:
    """Refuse a split in which a class never occurs, or the only class always occurs.

    If there are several independent findings, a rare one may be absent from val or test.
    """
    independent = len(manifest.classes) > 1 and not is_multiclass(manifest)
    for name, column in zip(manifest.classes, shows.T, strict=True):
        if (not column.any() and not (independent and split != "train")) or (
            column.all() and len(manifest.classes) == 1
        ):
            what = f"is without {name}" if column.all() else f"shows {name}"
            fix = "add some, or make a new split with datamodule.split=group and another seed"
            raise ManifestError(
                f"{root}: no image of split {split} {what} ({len(column)} images); {fix}"
            )
