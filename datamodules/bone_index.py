"""Index of a bone scan set: one row per labelled image; no image is opened.

A folder is indexed if it holds a label file of its own name.

Data: BS-80K (Huang et al. 2022, https://doi.org/10.1016/j.compbiomed.2022.106221): 26 regions and
    wholeBodyANT, wholeBodyPOST
"""

import os
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from datamodules.cleaning import CleaningReport
from datamodules.formats.bone_labels import BoneLabels, read_labels
from datamodules.images import SUFFIXES
from datamodules.refusal import ManifestError

INDEX_COLUMNS = ("id", "folder", "image", "part", "side", "view", "number", "label")
SCAN_NAME_PATTERN = re.compile(
    r"(?P<part>.+?)(?:(?P<side>[LR])?(?P<view>ANT|POST))?"
)  # kneeLANT, headPOST, vertbra
PART_NAMES = {
    name: name
    for name in (
        "ankle",
        "chest",
        "elbow",
        "head",
        "knee",
        "pelvis",
        "shoulder",
        "vertebra",
        "wholeBody",
    )
}
PART_NAMES |= {"sho": "shoulder", "vertbra": "vertebra"}  # as the published folders are spelled


def parse_folder(name: str) -> tuple[str, str, str]:
    """Split a folder's name into part, side (L, R or empty) and view (ANT, POST or empty).

    An unknown part keeps its spelling.
    """
    found = SCAN_NAME_PATTERN.fullmatch(name)
    part, side, view = (
        (found["part"], found["side"] or "", found["view"] or "") if found else (name, "", "")
    )
    return PART_NAMES.get(part, part), side, view


def build_index(root: Path, unmatched: str, cleaning: CleaningReport) -> pd.DataFrame:
    """List every labelled image below `root`, one row each.

    Folders are in the order of their names, images in that of their label file.

    Args:
        root: Holds the folders; those without a label file of their own name are left alone.
        unmatched: What to do with labels without image and images without label: `refuse`, or
            `drop`.
        cleaning: Takes the counts of what was dropped or odd.

    Returns:
        COLUMNS: `id` is "folder/file", `number` the patient's (the file's stem without leading
            zeros), all strings but `label`.

    Raises:
        ManifestError: no such folder, a label file that cannot be used, or unmatched files that are
            to be refused.
    """
    folders = _labeled_rows(root)
    if not folders:
        deeper = next((folder for folder in _folders(root) if _labeled_rows(folder)), None)
        raise ManifestError(
            f"{root} has no folder that holds a .txt of its own name, such as"
            f" wholeBodyPOST/wholeBodyPOST.txt{f' (but {deeper} has)' if deeper else ''}; set"
            " datamodule.root to the folder that holds them"
        )
    columns = zip(*(_index_columns(folder, unmatched, cleaning) for folder in folders), strict=True)
    return pd.DataFrame(
        {name: list(chain(*parts)) for name, parts in zip(INDEX_COLUMNS, columns, strict=True)}
    )


def _folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())


def _labeled_rows(root: Path) -> list[Path]:
    return [folder for folder in _folders(root) if (folder / f"{folder.name}.txt").is_file()]


def _index_columns(folder: Path, unmatched: str, cleaning: CleaningReport) -> Sequence[list[Any]]:
    """The COLUMNS of one folder."""
    file = folder / f"{folder.name}.txt"
    labels = read_labels(file)
    _count_odd(folder.name, labels, cleaning)
    names = _match_files(file, labels, unmatched, cleaning)
    n, place = len(names), f"{folder}{os.sep}"
    part, side, view = parse_folder(folder.name)
    numbers = [_patient_number(name) for name in names]
    ids, paths = [f"{folder.name}/{name}" for name in names], [place + name for name in names]
    return (
        ids,
        [folder.name] * n,
        paths,
        [part] * n,
        [side] * n,
        [view] * n,
        numbers,
        [labels.of[name] for name in names],
    )


def _patient_number(name: str) -> str:
    stem = name.rpartition(".")[0] or name
    return stem.lstrip("0") or "0"


def _count_odd(folder: str, labels: BoneLabels, cleaning: CleaningReport) -> None:
    part, _, view = parse_folder(folder)
    if part not in PART_NAMES.values():
        cleaning.count(
            "folder of a part that BS-80K does not have: indexed by its own name", folder
        )
    if not view:
        cleaning.count("folder whose name says no view, ANT or POST: indexed without one", folder)
    for _ in range(labels.blank):
        cleaning.count("blank line in a label file: skipped", f"{folder}/{folder}.txt")
    for name in labels.repeated:
        cleaning.count(
            "image that its label file names twice alike: taken once", f"{folder}/{name}"
        )


def _match_files(
    file: Path, labels: BoneLabels, unmatched: str, cleaning: CleaningReport
) -> list[str]:
    """The names that stand in the label file and in its folder."""
    with os.scandir(file.parent) as entries:
        files = {entry.name for entry in entries if entry.is_file()}
    missing = [name for name in labels.of if name not in files]
    if missing and unmatched == "refuse":
        said = (
            f"{file} names {len(missing)} images that are not in its folder, '{missing[0]}' in line"
            f" {labels.line[missing[0]]} for one"
        )
        raise ManifestError(f"{said}; restore them, or set datamodule.unmatched=drop")
    others = sorted(files - labels.of.keys() - {file.name})
    strays = [name for name in others if f".{name.rpartition('.')[2]}".lower() in SUFFIXES]
    if strays and unmatched == "refuse":
        said = f"{file} does not name {len(strays)} images of its folder, '{strays[0]}' for one"
        raise ManifestError(
            f"{said}; add a line for each, such as '{strays[0]}<TAB>0', or set"
            " datamodule.unmatched=drop"
        )
    ignored = sorted(set(others) - set(strays))
    for reason, names in (
        ("label without its image: left out", missing),
        ("image without a label: left out", strays),
        ("file that is no image: left out", ignored),
    ):
        for name in names:
            cleaning.count(reason, f"{file.parent.name}/{name}")
    return [name for name in labels.of if name in files]
