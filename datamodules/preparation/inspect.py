"""Check every file of a manifest, count all problems and print them; for do=[inspect]."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from datamodules.data_root import check_root
from datamodules.errors import ContentError, ManifestError
from datamodules.formats.gray_levels import (
    SourceImage,
    ValueSummary,
    common_window,
    is_blank_in_window,
    summarize_values,
)
from datamodules.formats.image_io import is_nearly_uniform
from datamodules.formats.rle import decode_rle
from datamodules.manifest.manifest import Manifest, label_matrix
from datamodules.manifest.validation import (
    CleaningReport,
    check_blank_images,
    check_inverted_masks,
    count_irregular_images,
)
from datamodules.sampling.strata import area_quartiles

if TYPE_CHECKING:
    from datamodules.base import ManifestDataModule

REFUSED_CONTENT = "content that training refuses"


def check_dataset(data: "ManifestDataModule") -> dict[str, Any]:
    """Read every image and mask of the manifest; decoded images are not kept.

    Args:
        data: Any data set; it is only read.

    Returns:
        `rows`, `patients` (None if unknown), `splits` and `strata` (name -> number of rows),
        `cls_prob`, `cleaning` (repairs and omissions) and `problems`; the last two map a
        description to its count and examples.

    Raises:
        ManifestError: There are problems (raised after the summary is printed), or the manifest
            itself cannot be read.
    """
    if data.phantom is not None:
        data.phantom(data.root)
    check_root(data.root)
    print(data.root)
    for heading, sentence in data.describe_layout().items():  # also if the files are refused
        print(f"{heading}: {sentence}")
    manifest = data.read_manifest()  # not data.table, which stops at the first problem
    with ThreadPoolExecutor() as pool:
        results = pool.map(
            lambda row: _check_row(manifest, row, data.channels), range(len(manifest))
        )
        found = list(
            track(results, "reading images and masks", total=len(manifest), transient=True)
        )
    problems = CleaningReport()
    for what, where in (problem for row in found for problem in row.problems):
        problems.count(what, where)
    _find_blank_deep_images(data, manifest, found)
    count_irregular_images(
        manifest,
        np.array([row.blank for row in found]),
        np.array([row.soft for row in found]),
        np.array([row.notes for row in found]),
        data.cleaning,
    )
    try:
        label_matrix(manifest)
    except ManifestError as error:
        problems.count(REFUSED_CONTENT, str(error))
    for sentence in _check_majority(data, manifest, found):
        problems.count(REFUSED_CONTENT, sentence)
    summary = {
        **_summarize(manifest, np.array([row.share for row in found])),
        "cleaning": data.cleaning.as_dict(),
        "problems": problems.as_dict(),
    }
    _print_summary(summary)
    if summary["problems"]:
        raise ManifestError(_error_message(data.root, summary))
    return summary


@dataclass
class _RowResult:
    """Content of one row, and its problems.

    Attributes:
        problems: Pairs of a description and the file or id, or the message that refuses the
            content.
        share: The lesion's fraction of the image, 0 if unknown.
        areas: Fraction of the image for each class, 0 if unknown.
        true_share: Fraction of the image in the true mask, -1 if there is none.
        soft: True if a mask has soft edges.
        blank: True if the image shows nearly one gray value.
        notes: See `SourceImage.notes`.
        summary: Summary of the values of an image of more than 8 bits.
    """

    areas: np.ndarray
    problems: list[tuple[str, str]] = field(default_factory=list)
    share: float = 0.0
    true_share: float = -1.0
    soft: bool = False
    blank: bool = False
    notes: int = 0
    summary: ValueSummary | None = None

    def inspect(self, image: SourceImage) -> None:
        """Note what is unusual about an image."""
        self.notes = image.notes
        if image.levels.deep:
            self.summary = summarize_values(image)
        else:
            self.blank = is_nearly_uniform(image.pixels)


def _find_blank_deep_images(
    data: "ManifestDataModule", manifest: Manifest, found: list[_RowResult]
) -> None:
    """Mark images of more than 8 bits that show nothing in the window of the data set.

    Without a split yet, the window is that of all images.
    """
    deep = [row for row, result in enumerate(found) if result.summary is not None]
    if not deep:
        return
    summaries = [found[row].summary or ValueSummary(np.zeros(0), 0) for row in deep]
    quantiles = np.stack([summary.quantiles for summary in summaries])
    pixels = np.array([summary.pixels for summary in summaries])
    if "split" in manifest.rows and data.split == "folders":
        train = (manifest.rows["split"] == "train").to_numpy()[deep]
        if train.any():
            pixels[~train] = 0
    window = data.window or common_window(quantiles, pixels)
    if window is not None:
        for row, blank in zip(deep, is_blank_in_window(quantiles, window), strict=True):
            found[row].blank = bool(blank)


def _check_majority(
    data: "ManifestDataModule", manifest: Manifest, found: list[_RowResult]
) -> Iterator[str]:
    """Yield the messages that refuse a data set for which most images or masks are unusable."""
    areas = np.stack([row.areas for row in found]) if "mask" in manifest.rows else None
    true_shares = np.array([row.true_share for row in found])
    checks: list[Callable[[], None]] = [
        lambda: check_blank_images(data.root, manifest, np.array([row.blank for row in found]))
    ]
    if data.inverted_masks == "refuse":
        checks.append(
            lambda: check_inverted_masks(
                data.root, manifest, areas, true_shares, np.ones(len(manifest))
            )
        )
    for check in checks:
        try:
            check()
        except ManifestError as error:
            yield str(error)


def _check_row(manifest: Manifest, row: int, channels: int) -> _RowResult:
    """Check one row: its image, its masks, and their agreement with its other columns."""
    rows: Any = manifest.rows
    names = (
        "id",
        "image",
        "mask",
        "cropped_mask",
        "true_mask",
        "crop",
        "square",
        "label",
        "cls_prob",
    )
    entry = {name: rows[name].iat[row] for name in names if name in rows}
    found = _RowResult(np.zeros(len(manifest.classes)))
    wrong = found.problems
    image: SourceImage | None = _read_file(
        entry["image"], "image", wrong, lambda path: manifest.read_image(row, channels)
    )
    pixels = None if image is None else image.pixels
    if image is not None:
        found.inspect(image)
    mask = _check_mask(manifest, row, entry, found)
    if pixels is not None and mask is not None and pixels.shape[:2] != mask.shape[:2]:
        wrong.append(("mask of another size than its image", _describe_row(entry)))
    if isinstance(entry.get("cropped_mask"), str):
        wrong += _check_crop(manifest, entry, pixels)
    if (
        isinstance(entry.get("true_mask"), str)
        and (true := _read_file(entry["true_mask"], "true mask", wrong, manifest.read_true_mask))
        is not None
    ):
        found.true_share, found.soft = float(true[0].mean()), found.soft or true[1]
    lost = any(what in ("missing mask", "unreadable mask", REFUSED_CONTENT) for what, _ in wrong)
    if "mask" in entry and "label" in entry and len(manifest.classes) == 1 and not lost:
        positive, has_mask = bool(np.any(entry["label"])), mask is not None and bool(mask.any())
        if positive != has_mask:
            wrong.append(
                (
                    (
                        f"has_pnx={int(positive)} and"
                        f" {'a mask that is not empty' if has_mask else 'an empty mask'}"
                    ),
                    _describe_row(entry),
                )
            )
    if not (pd.isna(entry.get("cls_prob")) or 0 <= float(entry["cls_prob"]) <= 1):
        wrong.append(("cls_prob outside 0..1", str(entry["id"])))
    if mask is not None:
        found.share, found.areas = float(mask.any(2).mean()), mask.mean((0, 1))
    return found


def _check_mask(
    manifest: Manifest, row: int, entry: dict[str, Any], found: _RowResult
) -> np.ndarray | None:
    """Return a row's mask as in training, or None without one."""
    if isinstance(entry.get("mask"), str):
        read = _read_file(
            entry["mask"],
            "mask",
            found.problems,
            lambda path: manifest.read_mask(path, manifest.slice_index(row)),
        )
        found.soft = read is not None and read.soft
        return None if read is None else read.mask
    try:
        rles = manifest.rles(row)
        size = next((rle["size"] for rle in rles if rle), None)
        return None if size is None else decode_rle(rles, *size)
    except ContentError as error:
        found.problems.append((REFUSED_CONTENT, str(error)))
    except ValueError:  # the masks of two classes differ in size
        found.problems.append(("mask of another size than its image", str(entry["id"])))
    return None


def _check_crop(
    manifest: Manifest, entry: dict[str, Any], pixels: np.ndarray | None
) -> Iterator[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    square, file = entry.get("square", entry.get("crop")), entry["cropped_mask"]
    read = _read_file(file, "cropped mask", wrong, manifest.read_mask)
    yield from wrong
    if read is not None and pixels is not None:
        size = (square[2], square[2]) if isinstance(square, list | tuple) else pixels.shape[:2]
        if read[0].shape[:2] != tuple(size):
            yield "cropped mask of another size than its crop", file


def _read_file(
    file: str, what: str, problems: list[tuple[str, str]], decode: Callable[[Path], Any]
) -> Any:
    """Decode a file; if it is missing, unreadable or refused, add a problem and return None."""
    if not Path(file).is_file():
        problems.append((f"missing {what}", file))
        return None
    try:
        return decode(Path(file))
    except ContentError as error:
        problems.append((REFUSED_CONTENT, str(error)))
    except (ManifestError, OSError):
        problems.append((f"unreadable {what}", file))
    return None


def _describe_row(entry: dict[str, Any]) -> str:
    return entry["mask"] if isinstance(entry["mask"], str) else str(entry["id"])


def _summarize(manifest: Manifest, area: np.ndarray) -> dict[str, Any]:
    rows = manifest.rows
    probability = rows["cls_prob"].dropna().astype(float).tolist() if "cls_prob" in rows else []
    train = (rows["split"] == "train").to_numpy() if "split" in rows else np.ones(len(rows), bool)
    strata = (
        rows["stratum"].tolist()
        if "stratum" in rows
        else area_quartiles(area, train).tolist()
        if "mask" in rows
        else []
    )
    return {
        "rows": len(rows),
        "patients": int(rows["group"].nunique()) if manifest.group_is == "patient" else None,
        "splits": dict(sorted(Counter(rows["split"].tolist()).items())) if "split" in rows else {},
        "strata": dict(sorted(Counter(map(str, strata)).items())),
        "cls_prob": {
            "known": len(probability),
            "lowest": min(probability, default=None),
            "highest": max(probability, default=None),
        },
    }


def _print_summary(summary: dict[str, Any]) -> None:
    """Print what was repaired or left out, and the problems."""
    console = Console()
    for kind, style in (("cleaning", None), ("problems", "red")):
        for what, cases in summary[kind].items():
            examples = (
                "".join(f"\n  {sentence}" for sentence in cases["examples"])
                if what == REFUSED_CONTENT
                else f" {', '.join(cases['examples'])}"
            )
            console.print(
                escape(f"{count_times(cases['count'])} {what}:{examples}"),
                style=style,
                soft_wrap=True,
                highlight=False,
            )


def count_times(count: int) -> str:
    """Return `1 time` or `3 times`."""
    return "1 time" if count == 1 else f"{count} times"


def _error_message(root: Path, summary: dict[str, Any]) -> str:
    firsts = {what: cases["examples"][0] for what, cases in summary["problems"].items()}
    shown = {
        what: f" ({first})" if what == REFUSED_CONTENT else f", such as '{first}'"
        for what, first in firsts.items()
    }
    parts = [
        f"{count_times(cases['count'])} {what}{shown[what]}"
        for what, cases in summary["problems"].items()
    ]
    return f"{root}: {'; '.join(parts)}; restore or correct the files, or remove their rows"
