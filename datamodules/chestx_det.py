"""ChestX-Det: chest radiographs with 13 kinds of findings, each outlined by a polygon.

Findings overlap, so each class has its own mask.

Data: https://github.com/Deepwise-AILab/ChestX-Det-Dataset (Lian et al. 2021), images of NIH
    ChestX-ray14
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pycocotools import mask as coco_mask

from datamodules.arguments import Names, validated
from datamodules.base import ManifestDataModule
from datamodules.formats.chestx_det import (
    CLASSES,
    Finding,
    nearest_class,
    outline_rle,
    read_chestx_det,
)
from datamodules.formats.rle import Rle
from datamodules.images import SUFFIXES, image_size
from datamodules.manifest import Manifest
from datamodules.refusal import ManifestError, UserError
from datamodules.strata import NO_LESION

SPLITS = ("train", "test")
FOLDER_NAMES = (
    "{0}_data/{0}",
    "{0}_data",
    "{0}",
    "images/{0}_data",
    "images/{0}",
    "images",
    ".",
)  # of a split's images, below the root
Annotations = dict[str, dict[str, list[Finding]]]  # split -> file name -> findings


@validated
class ChestXDetDataModule(ManifestDataModule):
    """One row per image with one mask per class, None for a class that it does not show.

    Patients are unknown.

    Args:
        classes: Classes to use, in channel order; None takes all 13.
        unmatched: `drop` images that no annotation names and annotations whose image is missing,
            and count them; or `refuse`.
        **base: As `ManifestDataModule`; `root` is the folder that holds ChestX_Det_train.json and
            ChestX_Det_test.json.
    """

    def __init__(
        self,
        classes: Names | None = None,
        unmatched: Literal["drop", "refuse"] = "drop",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.classes = CLASSES if classes is None else tuple(classes)
        self.unmatched = unmatched
        for name in self.classes:
            if name not in CLASSES:
                raise UserError(
                    f"datamodule.classes names '{name}', which ChestX-Det does not have;"
                    f" {nearest_class(name, list(CLASSES))}"
                )
        if not self.classes or len(set(self.classes)) < len(self.classes):
            wrong = (
                "names a class twice; name each once"
                if self.classes
                else "names no class; take null for all"
            )
            raise UserError(f"datamodule.classes={list(self.classes)} {wrong}")

    def manifest(self) -> Manifest:
        """The images of both files; `self.cleaning` lists what was left out or repaired."""
        found = {split: read_chestx_det(self.root / f"ChestX_Det_{split}.json") for split in SPLITS}
        frequency = Counter(
            finding.name
            for images in found.values()
            for findings in images.values()
            for finding in findings
        )
        for name in self.classes:
            if not frequency[name]:
                there = ", ".join(f"'{other}'" for other in CLASSES if frequency[other])
                raise ManifestError(
                    f"{self.root} shows no '{name}'; set datamodule.classes and module.classes to"
                    f" some of {there}"
                )
        folders = {split: self._folder(split, list(images)) for split, images in found.items()}
        self._match_files(found, folders)
        rows = [
            self._row(split, folders[split] / name, seen, frequency)
            for split, name, seen in self._present(found, folders)
        ]
        return Manifest(pd.DataFrame(rows), self.classes, group_is="image")

    def _folder(self, split: str, names: list[str]) -> Path:
        """Return the folder that holds most images of a split."""
        places = [self.root / place.format(split) for place in FOLDER_NAMES]
        there = {
            place: sum((place / name).is_file() for name in names)
            for place in places
            if place.is_dir()
        }
        best = max(there, key=lambda place: there[place])
        if not there[best]:
            raise ManifestError(
                f"{self.root} has none of the images that ChestX_Det_{split}.json names, such as"
                f" '{names[0]}' (looked in {', '.join(FOLDER_NAMES).format(split)}); unpack"
                f" {split}_data.zip there, or set datamodule.root=..."
            )
        return best

    def _match_files(self, found: Annotations, folders: dict[str, Path]) -> None:
        missing = [
            f"{split}/{name}"
            for split, images in found.items()
            for name in images
            if not (folders[split] / name).is_file()
        ]
        named = {folders[split] / name for split, images in found.items() for name in images}
        files = [
            path
            for folder in sorted(set(folders.values()))
            for path in sorted(folder.iterdir())
            if path.suffix.lower() in SUFFIXES
        ]
        strays = [str(path.relative_to(self.root)) for path in files if path not in named]
        for what, names in (
            ("annotated image that is missing", missing),
            ("image without an annotation", strays),
        ):
            if names and self.unmatched == "refuse":
                said = f"{len(names)} times an {what}, '{names[0]}' for one"
                raise ManifestError(
                    f"{self.root}: {said}; complete the download, or set datamodule.unmatched=drop"
                )
            for name in names:
                self.cleaning.count(f"{what}: left out", name)

    def _present(
        self, found: Annotations, folders: dict[str, Path]
    ) -> Iterator[tuple[str, str, list[Finding]]]:
        for split, images in found.items():
            for name, findings in images.items():
                if (folders[split] / name).is_file():
                    yield split, name, findings

    def _row(
        self, split: str, image: Path, findings: list[Finding], frequency: Counter[str]
    ) -> dict[str, Any]:
        masks = self._masks(f"{split}/{image.name}", image, findings)
        shown = [name for name, mask in zip(self.classes, masks, strict=True) if mask]
        return {
            "id": f"{split}/{image.name}",
            "image": str(image),
            "mask": masks,
            "label": [int(mask is not None) for mask in masks],
            "split": split,
            "stratum": (
                min(shown, key=lambda name: frequency[name]) if shown else NO_LESION
            ),  # its rarest: val gets its tenth of rare classes too
        }

    def _masks(self, id: str, image: Path, findings: list[Finding]) -> list[Rle | None]:
        """Return the union of each class's findings, None without any.

        The image's own size is read from its header.
        """
        parts: dict[str, list[Rle]] = {name: [] for name in self.classes}
        height, width = image_size(image) if findings else (0, 0)
        for finding in findings:
            rle, cut = outline_rle(finding, height, width, f"{self.root}: '{id}'")
            self._count_defects(id, finding, rle, cut)
            if rle in parts.get(finding.name, []):
                self.cleaning.count("exact duplicate finding: counts once", f"{id} {finding.name}")
            elif rle and finding.name in parts:
                parts[finding.name].append(rle)
        return [_merge_rles(of_class) if of_class else None for of_class in parts.values()]

    def _count_defects(self, id: str, finding: Finding, rle: Rle | None, cut: bool) -> None:
        if not finding.box_agrees:
            self.cleaning.count(
                "box that differs by more than 2 px from its polygon: the polygon is taken", id
            )
        if cut:
            self.cleaning.count("polygon that reaches out of the image: cut off at its border", id)
        if rle is None:
            self.cleaning.count("polygon that covers no pixel: left out", f"{id} {finding.name}")


def _merge_rles(parts: list[Rle]) -> Rle:
    merged = coco_mask.merge(parts)
    return {"size": merged["size"], "counts": merged["counts"].decode()}
