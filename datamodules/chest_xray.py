"""Chest radiographs in the Kaggle layout: `{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg`.

The name of a file holds the patient.

Data: https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia (Kermany et al. 2018)
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from datamodules.arguments import Names, validated
from datamodules.base import ManifestDataModule
from datamodules.errors import ManifestError
from datamodules.formats.image_files import is_image_file, is_junk
from datamodules.manifest.manifest import SPLITS, Manifest

PATIENT_PATTERNS = (r"person(\d+)_", r"NORMAL2-IM-(\d+)-", r"IM-(\d+)-", r"NORMAL-(\d+)-")


@validated
class ChestXrayDataModule(ManifestDataModule):
    """Chest radiographs in the Kaggle layout, one row per image.

    `split=group` pools the folders and makes a new split by patient (80/10/10, stratified by
    class); `split=folders` keeps the folders' split.

    Args:
        class_folders: Names of the class folders in a split. If there are two, the second is the
            positive class; three or more are exclusive classes.
        patient_patterns: Regular expressions that are tried in this order at the start of a file
            name; the first group is the patient's number.
        group: `patient`, or `file` if file names do not identify patients; every image is then a
            group of its own.
        both_classes: `refuse` a patient whose images are in two class folders, or `join` them into
            one group.
        **base: As `ManifestDataModule`; `root` is the folder that holds train, val and test.
    """

    image_kind = "chest radiographs"

    def __init__(
        self,
        class_folders: Names = ("NORMAL", "PNEUMONIA"),
        patient_patterns: Names = PATIENT_PATTERNS,
        group: Literal["patient", "file"] = "patient",
        both_classes: Literal["refuse", "join"] = "refuse",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.class_folders = list(class_folders)
        self.patient_patterns = [re.compile(pattern) for pattern in patient_patterns]
        self.group = group
        self.both_classes = both_classes

    def manifest(self) -> Manifest:
        """Return one row per image file; `self.cleaning` lists what was left out."""
        rows = pd.DataFrame([self._row(*found) for found in self._iter_files()])
        if not len(rows):
            raise ManifestError(
                f"{self.root} holds no image in its class folders; put some there, or set"
                " datamodule.root=..."
            )
        if self.group == "patient":
            self._check_patient_classes(rows)
        classes = self.class_folders[1:] if len(self.class_folders) == 2 else self.class_folders
        return Manifest(
            rows.drop(columns="patient"),
            classes=tuple(classes),
            group_is="patient" if self.group == "patient" else "image",
        )

    def _iter_files(self) -> Iterator[tuple[str, int, Path]]:
        """Yield split, class number and path of every image, ordered by name."""
        splits = [split for split in SPLITS if (self.root / split).is_dir()]
        if not splits:
            raise ManifestError(
                f"{self.root} has no folder train, val or test{self._nested_folder_hint()}; set"
                " datamodule.root to the folder that holds them"
            )
        for split in splits:
            self._check_class_folders(self.root / split)
            for number, name in enumerate(self.class_folders):
                for path in sorted((self.root / split / name).iterdir()):
                    if is_image_file(path):
                        yield split, number, path
                    else:
                        self.cleaning.count(
                            "file that is not an image: left out", f"{split}/{name}/{path.name}"
                        )

    def _nested_folder_hint(self) -> str:
        """Name the folder of train if it is one level down, as in the published zip."""
        inner = [folder for folder in sorted(self.root.iterdir()) if (folder / "train").is_dir()]
        return f" (but {inner[0]} has)" if inner else ""

    def _check_class_folders(self, folder: Path) -> None:
        present = sorted(
            path.name for path in folder.iterdir() if path.is_dir() and not is_junk(path)
        )
        known = ", ".join(self.class_folders)
        missing = [name for name in self.class_folders if name not in present]
        if missing:
            raise ManifestError(
                f"{folder} has no class folder {missing[0]} (it has"
                f" {', '.join(present) or 'none'});"
                f" sort the images into {known}, or name your own folders with"
                " datamodule.class_folders=[...]"
            )
        unknown = [name for name in present if name not in self.class_folders]
        if unknown:
            fix = "move it away, or name all class folders with datamodule.class_folders=[...]"
            raise ManifestError(
                f"{folder / unknown[0]} is none of the class folders {known}; {fix}"
            )

    def _row(self, split: str, number: int, path: Path) -> dict[str, Any]:
        name = self.class_folders[number]
        patient = (
            self._parse_patient(path) if self.group == "patient" else f"{split}/{name}/{path.name}"
        )
        joined = self.both_classes == "join" or self.group == "file"
        return {
            "id": f"{split}/{name}/{path.name}",
            "image": str(path),
            "patient": patient,
            "group": patient if joined else f"{name} {patient}",
            "label": number,
            "split": split,
            "stratum": name,
        }

    def _parse_patient(self, path: Path) -> str:
        for pattern in self.patient_patterns:
            found = pattern.match(path.name)
            if found:
                return path.name[: found.end(1)]
        raise ManifestError(
            f"{path} has no patient in its name (looked for"
            f" {', '.join(p.pattern for p in self.patient_patterns)}); rename it, add your own"
            " datamodule.patient_patterns=[...], or make every image its own group with"
            " datamodule.group=file"
        )

    def _check_patient_classes(self, rows: pd.DataFrame) -> None:
        classes = rows.groupby("patient")["label"].nunique()
        for patient in classes.index[classes > 1] if self.both_classes == "refuse" else ():
            of_patient = rows[rows["patient"] == patient].drop_duplicates("label")["id"].tolist()
            raise ManifestError(
                f"{self.root}: patient {patient} is in two class folders"
                f" ({' and '.join(of_patient)}); correct the folders, or keep the patient in one"
                " split with datamodule.both_classes=join"
            )
