"""Tables of pseudo labels: images, boxes on canvas and image, and a segmenter's manifest."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.base import ManifestDataModule
from datamodules.formats.rle import encode_rle
from datamodules.manifest.manifest import FILE_COLUMNS, SPLITS, Manifest
from weak_supervision.pipeline import PseudoLabel
from weak_supervision.quality import mask_features

MaskWithOrigin = tuple[Any, str]  # a mask and its origin
IMAGE_COLUMNS = (
    "id",
    "label",
    "probability",
    "threshold",
    "pred",
    "heat",
    "boxes",
    "accepted",
    "height",
    "width",
    "scale",
    "pad_left",
    "pad_top",
)
CORNER_COLUMNS = ("x1", "y1", "x2", "y2")
BOX_COLUMNS = ("id", "number", *CORNER_COLUMNS, "peak_x", "peak_y", "heat", "probability", "score")
FEATURE_NAMES = (
    *mask_features(np.zeros((1, 1), bool), np.zeros(4), np.zeros(2), np.zeros((1, 1))),
    "stability",
)


def build_image_table(pseudo_labels: Sequence[PseudoLabel], threshold: float) -> pd.DataFrame:
    """Build the table of images, one row per image.

    `pred` is the decision; `heat` is 1 if the heat map is not all zero, and empty without a heat
    map.
    """
    rows = [
        (
            *(
                each.info.id,
                each.info.label,
                each.probability,
                threshold,
                int(each.predicted_positive),
                int(each.cam_nonzero) if each.has_cam else None,
            ),
            *(
                len(each.proposals),
                each.n_accepted,
                each.info.letterbox.height,
                each.info.letterbox.width,
                each.info.letterbox.scale,
            ),
            *(each.info.letterbox.content.left, each.info.letterbox.content.top),
        )
        for each in pseudo_labels
    ]
    return pd.DataFrame(rows, columns=list(IMAGE_COLUMNS)).astype(
        {"label": "Int64", "heat": "Int64"}
    )


def build_box_table(pseudo_labels: Sequence[PseudoLabel], in_image_pixels: bool) -> pd.DataFrame:
    """Build the table of boxes, one row per box, the strongest box of an image first.

    `score` is the image's probability times the heat at the peak.

    Args:
        pseudo_labels: The images.
        in_image_pixels: True for the image's own pixels, with the features of the box's mask and
            the reason of its rejection (empty: accepted); False for canvas pixels.
    """
    rows: list[dict[str, Any]] = []
    for each in pseudo_labels:
        places = (
            (each.boxes, each.peaks)
            if in_image_pixels
            else (each.proposals.boxes, each.proposals.peaks)
        )
        for number, (box, peak, heat) in enumerate(
            zip(*places, each.proposals.heights, strict=True), 1
        ):
            numbers = (
                each.info.id,
                number,
                *box,
                *peak,
                heat,
                each.probability,
                each.probability * heat,
            )
            row = dict(zip(BOX_COLUMNS, numbers, strict=True))
            if in_image_pixels and each.mask_checks:
                verdict = each.mask_checks[number - 1]
                row |= {f"mask_{name}": verdict.features[name] for name in FEATURE_NAMES} | {
                    "mask_score": verdict.features["score"]
                }
                row |= {"rejected": verdict.reason or ""}
            rows.append(row)
    measured = (
        [*(f"mask_{name}" for name in FEATURE_NAMES), "mask_score", "rejected"]
        if in_image_pixels
        else []
    )
    return pd.DataFrame(rows, columns=[*BOX_COLUMNS, *measured])


def write_split_tables(
    folder: Path, pseudo_labels: Sequence[PseudoLabel], threshold: float
) -> None:
    """Write the tables of images and boxes of every predicted split.

    Files are preds_SPLIT.csv, pseudo_boxes_SPLIT.csv and pseudo_boxes_SPLIT_orig.csv.
    """
    for split in dict.fromkeys(each.info.split for each in pseudo_labels):
        of_split = [each for each in pseudo_labels if each.info.split == split]
        build_image_table(of_split, threshold).to_csv(folder / f"preds_{split}.csv", index=False)
        build_box_table(of_split, in_image_pixels=False).to_csv(
            folder / f"pseudo_boxes_{split}.csv", index=False
        )
        build_box_table(of_split, in_image_pixels=True).to_csv(
            folder / f"pseudo_boxes_{split}_orig.csv", index=False
        )


def remove_previous_outputs(folder: Path) -> None:
    """Remove the files of an earlier prediction, so that old and new files are not mixed."""
    for part in ("heat", "overlays", "masks"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for path in folder.glob("p*_*.csv"):
        path.unlink()


def write_outputs(
    folder: Path,
    data: ManifestDataModule,
    pseudo_labels: Sequence[PseudoLabel],
    threshold: float,
    class_name: str,
) -> None:
    """Write all tables and manifests.

    They are those of `write_split_tables`, manifest.csv, true_manifest.csv if true masks are known,
    and index.csv if the data set has one.

    Args:
        folder: Folder of the pseudo labels.
        data: Predicted data.
        pseudo_labels: The images, in the order of the data.
        threshold: Threshold in force.
        class_name: Name of the mapped class.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_split_tables(folder, pseudo_labels, threshold)
    read = data.table.rows["split"].isin(SPLITS)  # not the files that cannot be read
    rows = data.table.rows[read].reset_index(drop=True)
    phantom = data.table.phantom or data.phantom is not None
    table = replace(data.table, rows=rows, phantom=phantom)
    for file, kind in (
        ("manifest.csv", select_pseudo_mask),
        ("true_manifest.csv", select_true_mask),
    ):
        if kind is select_pseudo_mask or "true_mask" in table.rows:
            build_segmentation_manifest(table, pseudo_labels, kind, class_name).write(folder / file)
    index = getattr(data, "index", None)
    if index is not None:
        index.to_csv(folder / "index.csv", index=False)


def build_segmentation_manifest(
    table: Manifest,
    pseudo_labels: Sequence[PseudoLabel],
    select_mask: Callable[[PseudoLabel, Any, Manifest], MaskWithOrigin | None],
    class_name: str,
) -> Manifest:
    """Build the training set of a segmenter, one row per image with a known (even empty) mask.

    The column `mask_is` has the origin of the mask; `split` is that of the classifier, so that its
    test images are never trained on.

    Args:
        table: Manifest of the classifier.
        pseudo_labels: Results of the pipeline.
        select_mask: `select_pseudo_mask` or `select_true_mask`.
        class_name: Name of the class.
    """
    rows: Any = table.rows.set_index("id", drop=False)
    drawn = {
        each.info.id: mask
        for each in pseudo_labels
        if (mask := select_mask(each, _find_true_mask(rows, each.info.id), table)) is not None
    }
    labels = {each.info.id: each.info.label for each in pseudo_labels}
    chosen = rows.loc[list(drawn)].reset_index(drop=True)
    paths = {
        key: [str(Path(path).absolute()) if isinstance(path, str) else path for path in chosen[key]]
        for key in FILE_COLUMNS & set(chosen.columns) - {"mask"}
    }
    columns: Any = paths | {
        "mask": pd.Series([mask for mask, _ in drawn.values()], dtype=object),
        "mask_is": [kind for _, kind in drawn.values()],
    }
    columns |= {"label": [labels[id] for id in drawn]} if "label" in chosen else {}
    dropped = [
        key
        for key in ("outer_split", "stratum", "cls_prob", "crop", "square", "cropped_mask")
        if key in chosen
    ]
    dropped += (
        ["true_mask"] if table.swap_masks and "true_mask" in chosen else []
    )  # the files are not swapped, but the masks written here are
    return Manifest(
        chosen.assign(**columns).drop(columns=dropped), (class_name,), table.group_is, table.phantom
    )


def select_pseudo_mask(
    pseudo_label: PseudoLabel, true_path: str | bool, table: Manifest
) -> MaskWithOrigin | None:
    """Select the accepted masks of an abnormal image, and an empty mask of a normal one.

    Images of test get their true masks for evaluation, if true masks are known.

    Args:
        pseudo_label: The image.
        true_path: Path of the true mask, see `_find_true_mask`.
        table: Manifest of the classifier, which reads true masks.

    Returns:
        The mask (None for an empty one) and its origin; None if the mask is unknown.
    """
    if pseudo_label.info.split == "test" and true_path is not False:
        return select_true_mask(pseudo_label, true_path, table)
    if pseudo_label.info.label == 0:
        return None, "normal by label"
    return None if pseudo_label.mask is None else ([pseudo_label.mask], "pseudo mask")


def select_true_mask(
    pseudo_label: PseudoLabel, true_path: str | bool, table: Manifest
) -> MaskWithOrigin | None:
    """Select the true mask; normal images need none, abnormal images without one are left out."""
    if isinstance(true_path, str):
        mask = table.read_true_mask(true_path).mask
        return (
            (encode_rle(mask) if table.swap_masks else true_path, "true mask")
            if mask.any()
            else (None, "no lesion")
        )
    return (None, "no lesion") if pseudo_label.info.label == 0 else None


def _find_true_mask(rows: Any, id: str) -> str | bool:
    """Return the path of the true mask.

    It is True if the image has none but others do, and False if true masks are not known at all.
    """
    if "true_mask" not in rows:
        return False
    path = rows["true_mask"].get(id)
    return str(Path(path).absolute()) if isinstance(path, str) else True
