"""What the chain leaves as tables: every image, every box on the canvas and in the image's own pixels, and the manifest of a segmenter."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from callbacks.pseudo_labels.chain import Labelled
from callbacks.pseudo_labels.measures import measure
from datamodules.base import ManifestDataModule
from datamodules.formats.rle import encode
from datamodules.manifest import FILE_COLUMNS, Manifest

Drawn = tuple[Any, str]  # a mask, and what it is
IMAGES = (
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
CORNERS = ("x1", "y1", "x2", "y2")
BOXES = ("id", "number", *CORNERS, "peak_x", "peak_y", "heat", "probability", "score")
MEASURES = (
    *measure(np.zeros((1, 1), bool), np.zeros(4), np.zeros(2), np.zeros((1, 1))),
    "stability",
)


def image_rows(found: Sequence[Labelled], threshold: float) -> pd.DataFrame:
    """One row an image: `pred` is the decision, `heat` 1 where there is a heat map that shows something (empty: none was made)."""
    rows = [
        (
            *(
                each.known.id,
                each.known.label,
                each.probability,
                threshold,
                int(each.called),
                int(each.warm) if each.mapped else None,
            ),
            *(
                len(each.found),
                each.accepted,
                each.known.letterbox.height,
                each.known.letterbox.width,
                each.known.letterbox.scale,
            ),
            *(each.known.letterbox.content.left, each.known.letterbox.content.top),
        )
        for each in found
    ]
    return pd.DataFrame(rows, columns=list(IMAGES)).astype({"label": "Int64", "heat": "Int64"})


def box_rows(found: Sequence[Labelled], own: bool) -> pd.DataFrame:
    """One row a box, the strongest of an image first; `score` is the image's probability times the heat at the peak.

    Args:
        found: The images.
        own: In the image's own pixels, with what was measured of the box's mask and why it was
            rejected (empty: accepted); else on the canvas.
    """
    rows: list[dict[str, Any]] = []
    for each in found:
        places = (each.boxes, each.peaks) if own else (each.found.boxes, each.found.peaks)
        for number, (box, peak, heat) in enumerate(
            zip(*places, each.found.heights, strict=True), 1
        ):
            numbers = (
                each.known.id,
                number,
                *box,
                *peak,
                heat,
                each.probability,
                each.probability * heat,
            )
            row = dict(zip(BOXES, numbers, strict=True))
            if own and each.verdicts:
                verdict = each.verdicts[number - 1]
                row |= {f"mask_{name}": verdict.measures[name] for name in MEASURES} | {
                    "mask_score": verdict.measures["score"]
                }
                row |= {"rejected": verdict.reason or ""}
            rows.append(row)
    measured = [*(f"mask_{name}" for name in MEASURES), "mask_score", "rejected"] if own else []
    return pd.DataFrame(rows, columns=[*BOXES, *measured])


def write_tables(folder: Path, found: Sequence[Labelled], threshold: float) -> None:
    """Writes preds_SPLIT.csv, pseudo_boxes_SPLIT.csv and pseudo_boxes_SPLIT_orig.csv of every split that was looked at."""
    for split in dict.fromkeys(each.known.split for each in found):
        of_split = [each for each in found if each.known.split == split]
        image_rows(of_split, threshold).to_csv(folder / f"preds_{split}.csv", index=False)
        box_rows(of_split, own=False).to_csv(folder / f"pseudo_boxes_{split}.csv", index=False)
        box_rows(of_split, own=True).to_csv(folder / f"pseudo_boxes_{split}_orig.csv", index=False)


def remove_old(folder: Path) -> None:
    """Takes away what an earlier prediction left here, so that no old file stands among new ones."""
    for part in ("heat", "overlays", "masks"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for path in folder.glob("p*_*.csv"):
        path.unlink()


def write_down(
    folder: Path, data: ManifestDataModule, found: Sequence[Labelled], threshold: float, name: str
) -> None:
    """Writes all tables: those of `write_tables`, manifest.csv, true_manifest.csv where true masks are known, index.csv of a set that has one.

    Args:
        folder: Of the pseudo labels.
        data: What was looked at.
        found: The images, in its order.
        threshold: In force.
        name: Of the class that was looked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(folder, found, threshold)
    table = replace(data.table, phantom=data.table.phantom or data.phantom is not None)
    for file, kind in (("manifest.csv", pseudo_mask), ("true_manifest.csv", true_mask)):
        if kind is pseudo_mask or "true_mask" in table.rows:
            segmenters_manifest(table, found, kind, name).write(folder / file)
    index = getattr(data, "index", None)
    if index is not None:
        index.to_csv(folder / "index.csv", index=False)


def segmenters_manifest(
    table: Manifest,
    found: Sequence[Labelled],
    mask_of: Callable[[Labelled, Any, Manifest], Drawn | None],
    name: str,
) -> Manifest:
    """The training set of a segmenter: one row an image of which a mask is known, or known to be empty.

    Column `mask_is` says which it was; `split` is that of the classifier, so that what was test
    never trains.

    Args:
        table: What the classifier was given.
        found: What the chain made of it.
        mask_of: `pseudo_mask` or `true_mask`.
        name: Of the class.
    """
    rows: Any = table.rows.set_index("id", drop=False)
    drawn = {
        each.known.id: mask
        for each in found
        if (mask := mask_of(each, _true(rows, each.known.id), table)) is not None
    }
    labels = {each.known.id: each.known.label for each in found}
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
        chosen.assign(**columns).drop(columns=dropped), (name,), table.group_is, table.phantom
    )


def pseudo_mask(each: Labelled, true: str | bool, table: Manifest) -> Drawn | None:
    """The accepted masks of an abnormal image, none of a normal one; test has its true masks where there are some, to be judged by.

    Args:
        each: The image.
        true: As `_true` says.
        table: What the classifier was given; it reads true masks.

    Returns:
        Mask (None for an empty one) and what it is; None where nothing is known.
    """
    if each.known.split == "test" and true is not False:
        return true_mask(each, true, table)
    if each.known.label == 0:
        return None, "normal by label"
    return None if each.mask is None else ([each.mask], "pseudo mask")


def true_mask(each: Labelled, true: str | bool, table: Manifest) -> Drawn | None:
    """The true mask; a normal image needs none, an abnormal one without is left out."""
    if isinstance(true, str):
        mask, _ = table.read_mask(true)
        return (
            (encode(mask) if table.swap_masks else true, "true mask")
            if mask.any()
            else (None, "no lesion")
        )
    return (None, "no lesion") if each.known.label == 0 else None


def _true(rows: Any, id: str) -> str | bool:
    """The true mask's path; True where the image has none but others do; False where nobody knows true masks."""
    if "true_mask" not in rows:
        return False
    path = rows["true_mask"].get(id)
    return str(Path(path).absolute()) if isinstance(path, str) else True
