"""do=[validate]: every file that a manifest names is read, all that is wrong is counted, and a summary is printed."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from datamodules.checks import check_root
from datamodules.cleaning import CleaningReport
from datamodules.formats.rle import decode
from datamodules.images import read_image
from datamodules.manifest import Manifest, read_mask
from datamodules.refusal import ManifestError
from datamodules.strata import of_areas

if TYPE_CHECKING:
    from datamodules.base import ManifestDataModule


def validate(data: "ManifestDataModule") -> dict[str, Any]:
    """Reads every image and mask of the manifest; decoded images are not kept.

    Args:
        data: Any data set; only read.

    Returns:
        `rows`, `patients` (None if unknown), `splits` and `strata` (name -> rows), `cls_prob`, and what -> count and examples as
        `cleaning`, which was mended or left out, and as `problems`.

    Raises:
        ManifestError: something is wrong, said after all was printed; or the manifest itself cannot be read.
    """
    if data.phantom is not None:
        data.phantom(data.root)
    check_root(data.root)
    manifest = data.manifest()  # not its table, which stops at the first thing that is wrong
    with ThreadPoolExecutor() as pool:
        looked = pool.map(lambda row: _row(manifest, row), range(len(manifest)))
        found = list(track(looked, "reading images and masks", total=len(manifest), transient=True))
    problems = CleaningReport()
    for what, where in (problem for wrong, _ in found for problem in wrong):
        problems.count(what, where)
    summary = {**_summary(manifest, np.array([area for _, area in found])), "cleaning": data.cleaning.as_dict(), "problems": problems.as_dict()}
    _print(data.root, summary)
    if summary["problems"]:
        raise ManifestError(_sentence(data.root, summary))
    return summary


def _row(manifest: Manifest, row: int) -> tuple[list[tuple[str, str]], float]:
    """What is wrong with a row, each with the file or id it is wrong with; and its lesion's share of the image, 0 where unknown."""
    rows: Any = manifest.rows
    entry = {name: rows[name].iat[row] for name in ("id", "image", "mask", "cropped_mask", "crop", "square", "label", "cls_prob") if name in rows}
    wrong: list[tuple[str, str]] = []
    pixels = _read(entry["image"], "image", wrong, partial(read_image, channels=1))
    mask = _mask(manifest, entry, wrong)
    if pixels is not None and mask is not None and pixels.shape[:2] != mask.shape[:2]:
        wrong.append(("mask of another size than its image", _named(entry)))
    if isinstance(entry.get("cropped_mask"), str):
        wrong += _crop(entry, pixels)
    lost = any(what in ("missing mask", "unreadable mask") for what, _ in wrong)
    if "mask" in entry and "label" in entry and len(manifest.classes) == 1 and not lost:
        shows, drawn = bool(np.any(entry["label"])), mask is not None and bool(mask.any())
        if shows != drawn:
            wrong.append((f"has_pnx={int(shows)} and {'a mask that is not empty' if drawn else 'an empty mask'}", _named(entry)))
    if not (pd.isna(entry.get("cls_prob")) or 0 <= float(entry["cls_prob"]) <= 1):
        wrong.append(("cls_prob outside 0..1", str(entry["id"])))
    return wrong, 0.0 if mask is None else float(mask.any(2).mean())


def _mask(manifest: Manifest, entry: dict[str, Any], wrong: list[tuple[str, str]]) -> np.ndarray | None:
    if isinstance(entry.get("mask"), str):
        return _read(entry["mask"], "mask", wrong, lambda path: read_mask(path, len(manifest.classes)))
    rles = [rle for rle in entry["mask"] if rle] if isinstance(entry.get("mask"), list) else []
    try:
        return decode(rles, *rles[0]["size"]) if rles else None
    except ValueError:
        wrong.append(("unreadable mask", str(entry["id"])))
        return None


def _crop(entry: dict[str, Any], pixels: np.ndarray | None) -> Iterator[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    square, file = entry.get("square", entry.get("crop")), entry["cropped_mask"]
    mask = _read(file, "cropped mask", wrong, partial(read_image, channels=1))
    yield from wrong
    if mask is not None and pixels is not None:
        size = (square[2], square[2]) if isinstance(square, list | tuple) else pixels.shape[:2]
        if mask.shape[:2] != tuple(size):
            yield "cropped mask of another size than its crop", file


def _read(file: str, what: str, wrong: list[tuple[str, str]], decoded: Callable[[Path], np.ndarray]) -> np.ndarray | None:
    if not Path(file).is_file():
        wrong.append((f"missing {what}", file))
        return None
    try:
        return decoded(Path(file))
    except (ManifestError, OSError):
        wrong.append((f"unreadable {what}", file))
        return None


def _named(entry: dict[str, Any]) -> str:
    return entry["mask"] if isinstance(entry["mask"], str) else str(entry["id"])


def _summary(manifest: Manifest, area: np.ndarray) -> dict[str, Any]:
    rows = manifest.rows
    probability = rows["cls_prob"].dropna().astype(float).tolist() if "cls_prob" in rows else []
    train = (rows["split"] == "train").to_numpy() if "split" in rows else np.ones(len(rows), bool)
    strata = rows["stratum"].tolist() if "stratum" in rows else of_areas(area, train).tolist() if "mask" in rows else []
    return {
        "rows": len(rows),
        "patients": int(rows["group"].nunique()) if manifest.group_is == "patient" else None,
        "splits": dict(sorted(Counter(rows["split"].tolist()).items())) if "split" in rows else {},
        "strata": dict(sorted(Counter(map(str, strata)).items())),
        "cls_prob": {"known": len(probability), "lowest": min(probability, default=None), "highest": max(probability, default=None)},
    }


def _print(root: Path, summary: dict[str, Any]) -> None:
    table, console = Table(box=SIMPLE_HEAD, show_header=False, padding=(0, 1, 0, 0)), Console()
    table.add_row("images", str(summary["rows"]))
    table.add_row("patients", "unknown" if summary["patients"] is None else str(summary["patients"]))
    for name in ("splits", "strata"):
        table.add_row(name, ", ".join(f"{key} {count}" for key, count in summary[name].items()) or "none yet")
    known = summary["cls_prob"]
    table.add_row("cls_prob", f"of {known['known']} images, {known['lowest']:.3f} to {known['highest']:.3f}" if known["known"] else "none")
    console.print(escape(str(root)), soft_wrap=True)
    console.print(table)
    for kind, style in (("cleaning", None), ("problems", "red")):
        for what, cases in summary[kind].items():
            console.print(escape(f"{cases['count']} times {what}: {', '.join(cases['examples'])}"), style=style, soft_wrap=True, highlight=False)


def _sentence(root: Path, summary: dict[str, Any]) -> str:
    said = "; ".join(f"{cases['count']} times {what}, '{cases['examples'][0]}' for one" for what, cases in summary["problems"].items())
    return f"{root}: {said}; restore or correct the files, or take their rows out"
