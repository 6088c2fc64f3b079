"""The table of a data set, one row per image, checked before anything expensive starts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.formats.meta_json import is_meta, rows_of
from datamodules.formats.rle import Rle, encode
from datamodules.images import read_image
from datamodules.refusal import ManifestError

VERSION = 1
SPLITS = ("train", "val", "test")
REQUIRED = ("id", "image")
FILES = {"image", "mask", "cropped_mask", "true_mask"}  # columns of paths
BITS = 8  # of a grey mask picture's value, one a class
LISTS = {"mask", "label", "crop", "boxes", "physiological"}  # columns that may hold lists, which a CSV holds as JSON


@dataclass(frozen=True)
class Manifest:
    """One row per image and the names of the classes.

    Attributes:
        rows: Columns `id` and `image` (a path), and where known `group` (the patient), `mask` (a path, or one compressed
            RLE or None per class at the image's own size), `label` (int or multi-hot list), `split`, `stratum`, `cls_prob`,
            `spacing_mm`, `crop` ([top, left, side] in pixels: the square of the image that stands for it); further columns travel along.
        classes: Names of the mask's or label's classes, in channel order.
        group_is: What `group` stands for: "patient", or "image" where patients are unknown.
        phantom: Whether the images are drawn.
    """

    rows: pd.DataFrame
    classes: tuple[str, ...] = ("lesion",)
    group_is: str = "image"
    phantom: bool = False

    def __post_init__(self) -> None:
        _check(self.rows)
        groups = self.rows["group"] if "group" in self.rows else self.rows["id"]
        self.rows["group"] = groups.where(groups.notna(), self.rows["id"]).astype(str)  # an unknown patient is one of its own

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, split: str) -> np.ndarray:
        """Row numbers of one split."""
        return np.flatnonzero(self.rows["split"].to_numpy() == split)

    def rles(self, row: int) -> list[Rle | None]:
        """One compressed RLE per class of one row; a mask given as a path is read and encoded."""
        mask: Any = self.rows["mask"].iat[row] if "mask" in self.rows else None
        if isinstance(mask, str | Path):
            return encode(read_mask(Path(mask), len(self.classes)))
        return [None] * len(self.classes) if mask is None else mask

    def write(self, path: Path) -> Path:
        """Writes `.csv` (its first line holds version and classes) or `.json`; `read` gives the same manifest back."""
        head = {"version": VERSION, "classes": list(self.classes), "group_is": self.group_is} | ({"phantom": True} if self.phantom else {})
        if path.suffix == ".json":
            path.write_text(json.dumps(head | {"rows": self.rows.to_dict("records")}, default=str, allow_nan=True))
            return path
        table = self.rows.copy()
        for name in LISTS & set(table.columns):
            table[name] = table[name].map(lambda value: value if isinstance(value, str) or value is None else json.dumps(value))
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write("# " + json.dumps(head) + "\n")
            table.to_csv(file, index=False)
        return path


def read(path: Path) -> Manifest:
    """Reads a manifest that `Manifest.write` wrote, a plain CSV with at least the columns id and image, or a pneumothorax meta JSON.

    Relative paths are relative to the manifest's folder.

    Raises:
        ManifestError: missing, malformed, of a later version, or without the required columns.
    """
    if not path.is_file():
        raise ManifestError(f"{path} is not a file; name a manifest (.csv or .json) with at least the columns id and image")
    try:
        head, rows = _read_json(path) if path.suffix == ".json" else _read_csv(path)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} is not a manifest that can be read ({error}); write it as CSV with the columns id,image,mask,split") from error
    if head.get("version", VERSION) > VERSION:
        raise ManifestError(f"{path} is a manifest of version {head['version']}, newer than {VERSION}; update this repository to read it")
    for name in FILES & set(rows.columns):
        rows[name] = pd.Series([_beside(value, path.parent) for value in rows[name]], dtype=object)
    head = {"classes": ["lesion"], "group_is": "patient" if "group" in rows else "image", "phantom": False} | head
    return Manifest(rows, tuple(head["classes"]), head["group_is"], head["phantom"])


def read_mask(path: Path, classes: int) -> np.ndarray:
    """A mask image as 0/1 `H x W x classes`: grey above 127 is the one class; with up to 8, bit c of the value is class c."""
    if classes > BITS:
        raise ManifestError(
            f"{path} is a grey picture of at most {BITS} classes, and there are {classes}; write one compressed RLE per class instead"
        )
    grey = read_image(path, channels=1)
    if classes == 1:
        return (grey > 127).astype(np.uint8)
    return (grey >> np.arange(classes, dtype=np.uint8)) & 1


def _check(rows: pd.DataFrame) -> None:
    for name in REQUIRED:
        if name not in rows:
            raise ManifestError(f"the manifest has no column '{name}' (it has {', '.join(map(str, rows.columns))}); add it")
        if rows[name].isna().any():
            raise ManifestError(f"row {int(rows[name].isna().to_numpy().argmax())} of the manifest has no {name}; fill it in or remove the row")
    twice = rows["id"][rows["id"].duplicated()]
    if len(twice):
        raise ManifestError(f"id '{twice.iloc[0]}' stands {int((rows['id'] == twice.iloc[0]).sum())} times in the manifest; ids must be unique")
    if "split" in rows:
        unknown = set(rows["split"]) - set(SPLITS)
        if unknown:
            raise ManifestError(f"split '{sorted(map(str, unknown))[0]}' is none of {', '.join(SPLITS)}; rename it in the manifest")


def _read_json(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if is_meta(content):
        return {"classes": ["pneumothorax"]}, rows_of(content, path)
    return content, pd.DataFrame(content.pop("rows"))


def _read_csv(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    commented = first.startswith("#")
    table = pd.read_csv(path, skiprows=1 if commented else 0, dtype={"id": str, "group": str, "image": str, "mask": object, "split": str})
    for name in LISTS & set(table.columns):
        table[name] = pd.Series([_parsed(value) for value in table[name]], dtype=object)
    return (json.loads(first[1:]) if commented else {}), table


def _parsed(value: Any) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value


def _beside(value: Any, folder: Path) -> Any:
    return str(folder / value) if isinstance(value, str) else None if isinstance(value, float) else value  # NaN: pandas knows no other nothing
