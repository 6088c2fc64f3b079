"""What the chain leaves as tables: every image, every box on the canvas and in the image's own pixels, and the manifest of a segmenter."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from callbacks.pseudo_labels.chain import Labelled
from callbacks.pseudo_labels.measures import measure
from datamodules.base import ManifestDataModule
from datamodules.manifest import FILES, Manifest, read_mask

IMAGES = ("id", "label", "probability", "threshold", "pred", "heat", "boxes", "accepted", "height", "width", "scale", "pad_left", "pad_top")
CORNERS = ("x1", "y1", "x2", "y2")
BOXES = ("id", "number", *CORNERS, "peak_x", "peak_y", "heat", "probability", "score")
MEASURES = (*measure(np.zeros((1, 1), bool), np.zeros(4), np.zeros(2), np.zeros((1, 1))), "stability")


def image_rows(found: Sequence[Labelled], threshold: float) -> pd.DataFrame:
    """One row an image: `pred` is the decision, `heat` 1 where there is a heat map that shows something (empty: none was made)."""
    rows = [
        (
            *(each.known.id, each.known.label, each.probability, threshold, int(each.called), int(each.warm) if each.mapped else None),
            *(len(each.found), each.accepted, each.known.letterbox.height, each.known.letterbox.width, each.known.letterbox.scale),
            *(each.known.letterbox.content.left, each.known.letterbox.content.top),
        )
        for each in found
    ]
    return pd.DataFrame(rows, columns=list(IMAGES)).astype({"label": "Int64", "heat": "Int64"})


def box_rows(found: Sequence[Labelled], own: bool) -> pd.DataFrame:
    """One row a box, the strongest of an image first; `score` is the image's probability times the heat at the peak.

    Args:
        found: The images.
        own: In the image's own pixels, with what was measured of the box's mask and why it was rejected (empty: accepted); else on the canvas.
    """
    rows: list[dict[str, Any]] = []
    for each in found:
        places = (each.boxes, each.peaks) if own else (each.found.boxes, each.found.peaks)
        for number, (box, peak, heat) in enumerate(zip(*places, each.found.heights, strict=True), 1):
            numbers = (each.known.id, number, *box, *peak, heat, each.probability, each.probability * heat)
            row = dict(zip(BOXES, numbers, strict=True))
            if own and each.verdicts:
                verdict = each.verdicts[number - 1]
                row |= {f"mask_{name}": verdict.measures[name] for name in MEASURES} | {"mask_score": verdict.measures["score"]}
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


def write_down(folder: Path, data: ManifestDataModule, found: Sequence[Labelled], threshold: float) -> None:
    """Writes all tables: those of `write_tables`, manifest.csv, true_manifest.csv where true masks are known, index.csv of a set that has one.

    Args:
        folder: Of the pseudo labels.
        data: What was looked at.
        found: The images, in its order.
        threshold: In force.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = replace(data.table, phantom=data.table.phantom or data.phantom is not None)
    write_tables(folder, found, threshold)
    pseudo_manifest(table, found).write(folder / "manifest.csv")
    true = true_manifest(table)
    if true is not None:
        true.write(folder / "true_manifest.csv")
    index = getattr(data, "index", None)
    if index is not None:
        index.to_csv(folder / "index.csv", index=False)


def pseudo_manifest(table: Manifest, found: Sequence[Labelled]) -> Manifest:
    """The training set of a segmenter: one row an image of which a mask is known, or known to be empty.

    A normal image has an empty mask, an abnormal one (or one of unknown label) the accepted masks; without any it is left out. Test has its
    true masks instead where there are some, so that a segmenter is judged by the truth. Column `mask_is` says which it was; `split` is that
    of the classifier, so that what was test never trains.

    Args:
        table: What the classifier was given.
        found: What the chain made of it.
    """
    rows: Any = table.rows.set_index("id", drop=False)
    kept: list[str] = []
    masks: list[Any] = []
    kinds: list[str] = []
    for each in found:
        true = rows["true_mask"].get(each.known.id) if "true_mask" in rows else None
        if each.known.split == "test" and "true_mask" in rows:
            masks.append(true if isinstance(true, str) else None)
            kinds.append("true mask" if isinstance(true, str) else "no lesion")
        elif each.known.label == 0 or each.mask is not None:
            masks.append(None if each.known.label == 0 else [each.mask])
            kinds.append("normal by label" if each.known.label == 0 else "pseudo mask")
        else:
            continue
        kept.append(each.known.id)
    chosen = rows.loc[kept].reset_index(drop=True)
    return _of(table, chosen, masks, kinds)


def true_manifest(table: Manifest) -> Manifest | None:
    """The same images with their true masks throughout, for the comparison; None where there are none."""
    if "true_mask" not in table.rows:
        return None
    masks = [mask if isinstance(mask, str) and read_mask(Path(mask), 1).any() else None for mask in table.rows["true_mask"]]
    return _of(table, table.rows.reset_index(drop=True), masks, ["true mask" if mask else "no lesion" for mask in masks])


def _of(table: Manifest, rows: pd.DataFrame, masks: Sequence[Any], kinds: Sequence[str]) -> Manifest:
    paths = {name: [str(Path(path).absolute()) if isinstance(path, str) else path for path in rows[name]] for name in FILES & set(rows.columns)}
    own = pd.Series([str(Path(mask).absolute()) if isinstance(mask, str) else mask for mask in masks], dtype=object)
    dropped = [name for name in ("outer_split", "stratum", "cls_prob") if name in rows]
    columns: Any = paths | {"mask": own, "mask_is": list(kinds)}
    return Manifest(rows.drop(columns=dropped).assign(**columns), table.classes[:1], table.group_is, table.phantom)
