"""Reader and writer of the meta JSON of pneumothorax curricula.

It has one entry per image, with its mask, its stratum and a pre-classifier's probability.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.errors import ManifestError
from datamodules.formats.file_content import shorten

COLUMN_OF_KEY = {
    "image_path": "image",
    "mask_path": "mask",
    "cropped_mask_path": "cropped_mask",
    "has_pnx": "label",
    "strata": "stratum",
}
STRATA = ("0_none", "1_q1", "1_q2", "1_q3", "1_q4")  # as datamodules.sampling.strata names them
EXTRA_KEYS = dict.fromkeys(
    ("id", "image", "mask", "cropped_mask", "stratum", "group", "split", "crop"), object
)  # columns that pandas must not convert
DTYPES = {**EXTRA_KEYS, "label": np.int64, "cls_prob": np.float64}


def is_meta_json(content: Any) -> bool:
    """Return True if JSON content is a list of meta entries, or a dict id -> entry."""
    entries = (
        content.values()
        if isinstance(content, dict)
        else content
        if isinstance(content, list)
        else ()
    )
    return any(
        isinstance(entry, dict) and not COLUMN_OF_KEY.keys().isdisjoint(entry) for entry in entries
    )


def is_valid_crop(crop: Any) -> bool:
    """Return True if a value is [top, left, side] in whole pixels, the side above 0."""
    return (
        isinstance(crop, list | tuple)
        and len(crop) == 3
        and all(type(number) is int for number in crop)
        and crop[2] > 0
    )


def read_meta_rows(content: Any, path: Path) -> pd.DataFrame:
    """Convert the entries to rows of a manifest.

    Args:
        content: Parsed JSON of the file, see `is_meta_json`.
        path: The file; paths in it are relative to its folder and are returned unchanged.

    Returns:
        A table with the columns id (the entry's own, otherwise its key, otherwise the image's path
        below the folder), image, mask, cropped_mask and label; stratum if all entries have
        `strata`; cls_prob (NaN where unknown), group, split and crop if some entries have them; and
        one column for each further key.

    Raises:
        ManifestError: An entry contradicts itself or lacks a required value; the message names it.
    """
    keyed = (
        list(content.items()) if isinstance(content, dict) else [(None, entry) for entry in content]
    )
    rows = [_parse_entry(key, entry, number, path) for number, (key, entry) in enumerate(keyed)]
    names = dict.fromkeys(name for row in rows for name in row)
    if any(row.get("stratum") is None for row in rows):
        names.pop("stratum", None)
    if "split" in names and (without := [row["id"] for row in rows if row.get("split") is None]):
        raise ManifestError(
            f"{path}: entry '{without[0]}' has no split, but others have one; write train, val or"
            " test into every entry, or into none"
        )
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=DTYPES.get(name)) for name in names}
    )


def write_meta_json(rows: pd.DataFrame, patients: bool, path: Path) -> Path:
    """Write the rows as a list of entries.

    Files below the list's folder are written with relative paths, other files with absolute paths.

    Args:
        rows: Rows of a manifest whose masks are files. has_pnx is the `label`, or without labels
            whether there is a mask; `cropped_mask`, `crop`, `stratum`, `cls_prob` and `split` are
            written if they are columns.
        patients: True if `group` is the patient; otherwise it is not written.
        path: The file to write.

    Raises:
        ManifestError: A mask is an RLE and not a file.
    """
    entries = [_meta_entry(row, patients, path) for row in rows.to_dict("records")]
    path.write_text(
        json.dumps(entries, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    return path


def _parse_entry(key: str | None, entry: Any, number: int, path: Path) -> dict[str, Any]:
    where = f"{path}: entry " + (f"'{key}'" if key is not None else f"number {number + 1}")
    if not isinstance(entry, dict):
        raise ManifestError(
            f"{where} is of type {type(entry).__name__}, not an object; write it as {{'image_path':"
            " ..., 'has_pnx': ...}"
        )
    image = entry.get("image_path")
    if not isinstance(image, str) or not image or "\0" in image:
        raise ManifestError(
            f"{where} has no image_path; name its image file, relative to {path.parent}"
        )
    id = _parse_text(entry, "id", where) or key or _relative_path(image, path.parent)
    where = f"{path}: entry '{id}'"
    row = {
        name: value
        for name, value in entry.items()
        if name not in COLUMN_OF_KEY and name not in COLUMN_OF_KEY.values()
    }
    row |= {
        "id": id,
        "image": image,
        "mask": _parse_file(entry, "mask_path", where),
        "cropped_mask": _parse_file(entry, "cropped_mask_path", where),
    }
    row["label"] = _parse_label(entry, where)
    if row["label"] and row["mask"] is None:
        raise ManifestError(
            f"{where} has has_pnx=1 and no mask_path; name its mask, or set has_pnx to 0"
        )
    for name, value in (
        ("stratum", _parse_stratum(entry, row["label"], where)),
        ("cls_prob", _parse_probability(entry, where)),
        ("crop", _parse_crop(entry, where)),
    ):
        row.pop(name, None)
        if value is not None:
            row[name] = value
    texts = {name: _parse_text(entry, name, where) for name in ("group", "split") if name in entry}
    return row | texts


def _parse_text(entry: dict[str, Any], key: str, where: str) -> str | None:
    """Return a value as text; None without one."""
    value = entry.get(key)
    if value is not None and not isinstance(value, str | int | float):
        raise ManifestError(
            f"{where} has {key}={shorten(repr(value), 60)}; write a text or a number"
        )
    return _optional_text(value)


def _parse_file(entry: dict[str, Any], key: str, where: str) -> str | None:
    if (value := entry.get(key)) is not None and not isinstance(value, str):
        raise ManifestError(f"{where} has {key}={value!r}; write the path of a file, or null")
    return value or None


def _parse_label(entry: dict[str, Any], where: str) -> int:
    label = entry.get("has_pnx")
    if not isinstance(label, bool | int | float) or label not in (0, 1):
        raise ManifestError(f"{where} has has_pnx={label!r}; write 0, 1, true or false")
    return int(label)


def _parse_stratum(entry: dict[str, Any], label: int, where: str) -> str | None:
    stratum = entry.get("strata")
    if stratum is not None and (stratum not in STRATA or (stratum != STRATA[0]) != bool(label)):
        fits = "one of 1_q1, 1_q2, 1_q3, 1_q4" if label else STRATA[0]
        raise ManifestError(
            f"{where} has strata={stratum!r} and has_pnx={label}; write {fits}, or correct has_pnx"
        )
    return stratum


def _parse_probability(entry: dict[str, Any], where: str) -> float | None:
    value = entry.get("cls_prob")
    if value is None or value != value:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ManifestError(
            f"{where} has cls_prob={shorten(repr(value), 60)}; write a probability from 0 to 1, or"
            " null if it is unknown"
        )
    return float(value)


def _parse_crop(entry: dict[str, Any], where: str) -> list[int] | None:
    if (crop := entry.get("crop")) is not None and not is_valid_crop(crop):
        raise ManifestError(
            f"{where} has crop={crop!r}; write [top, left, side] in whole pixels of the image, or"
            " null"
        )
    return crop


def _meta_entry(row: dict[Any, Any], patients: bool, path: Path) -> dict[str, Any]:
    mask = row.get("mask")
    if isinstance(mask, list):
        raise ManifestError(
            f"the mask of '{row['id']}' is an RLE, which a meta JSON cannot hold; write mask files"
            " with do=[export]"
        )
    files = {
        key: _relative_path(row[name], path.parent) if isinstance(row.get(name), str) else None
        for key, name in list(COLUMN_OF_KEY.items())[:3]
    }
    entry = {
        "id": row["id"],
        **files,
        "has_pnx": (
            int(np.any(row["label"])) if "label" in row else int(files["mask_path"] is not None)
        ),
    }
    if "stratum" in row:
        entry["strata"] = row["stratum"]
    if "cls_prob" in row:
        entry["cls_prob"] = None if pd.isna(row["cls_prob"]) else float(row["cls_prob"])
    entry |= {
        name: row[name] for name in (("group", "split") if patients else ("split",)) if name in row
    }
    return entry | (
        {"crop": list(row["crop"]) if isinstance(row["crop"], list | tuple) else None}
        if "crop" in row
        else {}
    )


def _optional_text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _relative_path(file: str, folder: Path) -> str:
    """Return a path relative to the folder if it lies below it, else unchanged."""
    return (
        Path(file).relative_to(folder).as_posix()
        if Path(file).is_relative_to(folder)
        else Path(file).as_posix()
    )
