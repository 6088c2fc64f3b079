"""What the chain leaves as tables: every image, every box on the canvas and in the image's own pixels, and the manifest of a segmenter."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.base import ManifestDataModule
from datamodules.formats.rle import encode
from datamodules.manifest.manifest import FILE_COLUMNS, Manifest
from weak_supervision.pipeline import PseudoLabel
from weak_supervision.quality import mask_features

MaskWithOrigin = tuple[Any, str]  # a mask, and what it is
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
    """One row an image: `pred` is the decision, `heat` 1 where there is a heat map that shows something (empty: none was made)."""
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
    """One row a box, the strongest of an image first; `score` is the image's probability times the heat at the peak.

    Args:
        pseudo_labels: The images.
        in_image_pixels: In the image's own pixels, with what was measured of the box's mask and why it was
            rejected (empty: accepted); else on the canvas.
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
    """Writes preds_SPLIT.csv, pseudo_boxes_SPLIT.csv and pseudo_boxes_SPLIT_orig.csv of every split that was looked at."""
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
    """Takes away what an earlier prediction left here, so that no old file stands among new ones."""
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
    """Writes all tables: those of `write_split_tables`, manifest.csv, true_manifest.csv where true masks are known, index.csv of a set that has one.

    Args:
        folder: Of the pseudo labels.
        data: What was looked at.
        pseudo_labels: The images, in its order.
        threshold: In force.
        class_name: Of the class that was looked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_split_tables(folder, pseudo_labels, threshold)
    table = replace(data.table, phantom=data.table.phantom or data.phantom is not None)
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
    """The training set of a segmenter: one row an image of which a mask is known, or known to be empty.

    Column `mask_is` says which it was; `split` is that of the classifier, so that what was test
    never trains.

    Args:
        table: What the classifier was given.
        pseudo_labels: What the chain made of it.
        select_mask: `select_pseudo_mask` or `select_true_mask`.
        class_name: Of the class.
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
    )  # its files are not swapped, and the masks written here are
    return Manifest(
        chosen.assign(**columns).drop(columns=dropped), (class_name,), table.group_is, table.phantom
    )


def select_pseudo_mask(
    pseudo_label: PseudoLabel, true_path: str | bool, table: Manifest
) -> MaskWithOrigin | None:
    """The accepted masks of an abnormal image, none of a normal one; test has its true masks where there are some, to be judged by.

    Args:
        pseudo_label: The image.
        true_path: As `_find_true_mask` says.
        table: What the classifier was given; it reads true masks.

    Returns:
        Mask (None for an empty one) and what it is; None where nothing is known.
    """
    if pseudo_label.info.split == "test" and true_path is not False:
        return select_true_mask(pseudo_label, true_path, table)
    if pseudo_label.info.label == 0:
        return None, "normal by label"
    return None if pseudo_label.mask is None else ([pseudo_label.mask], "pseudo mask")


def select_true_mask(
    pseudo_label: PseudoLabel, true_path: str | bool, table: Manifest
) -> MaskWithOrigin | None:
    """The true mask; a normal image needs none, an abnormal one without is left out."""
    if isinstance(true_path, str):
        mask, _ = table.read_mask(true_path)
        return (
            (encode(mask) if table.swap_masks else true_path, "true mask")
            if mask.any()
            else (None, "no lesion")
        )
    return (None, "no lesion") if pseudo_label.info.label == 0 else None


def _find_true_mask(rows: Any, id: str) -> str | bool:
    """The true mask's path; True where the image has none but others do; False where nobody knows true masks."""
    if "true_mask" not in rows:
        return False
    path = rows["true_mask"].get(id)
    return str(Path(path).absolute()) if isinstance(path, str) else True
