"""Layout of nnU-Net's raw data and of the Medical Segmentation Decathlon.

Both have imagesTr/, labelsTr/ and dataset.json.

Format: https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from datamodules.errors import ManifestError
from datamodules.formats.file_content import read_json, shorten
from datamodules.formats.layout import (
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    folder_of,
    stem,
)

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")
DATASET_FILE = "dataset.json"
FOLDERS = (("imagesTr", "labelsTr", None), ("imagesTs", "labelsTs", "test"))


class NnUnetLayout(Layout):
    """nnU-Net raw: `imagesTr/case_0000.png`, `labelsTr/case.png`, names in `dataset.json`.

    Images are of any format, also volumes. The Decathlon has no channel in its names.
    """

    name = "nnunet"
    task = "masks"
    looks_for = "imagesTr/, labelsTr/ and dataset.json (nnU-Net raw)"
    specializes = ("image_mask_folders",)

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize dataset.json beside imagesTr/ and labelsTr/."""
        folders = {folder_of(file) for file in tree.files}
        if DATASET_FILE not in tree.files or not {"imagesTr", "labelsTr"} <= folders:
            return None
        return "imagesTr/, labelsTr/ and dataset.json"

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Pair cases by name; the labels of dataset.json name the values of the masks."""
        labels = _read_labels(tree.path(DATASET_FILE))
        records = [record for folders in FOLDERS for record in self._records(tree, *folders)]
        if not any(record.split == "test" for record in records):
            for record in records:
                record.split = None
        mask_values: dict[int, Any] = defaultdict(list)
        for name, values in labels.items():
            for value in values if name not in ("background", "ignore") else ():
                mask_values[value].append(name)
        ignored = labels.get("ignore", [None])[0]
        names = [name for name in labels if name not in ("background", "ignore")]
        return LayoutContent(records, names, dict(mask_values), ignored)

    def _records(
        self, tree: FolderTree, images: str, labels: str, split: str | None
    ) -> list[ImageRecord]:
        masks = {
            stem(file): file
            for file in tree.files
            if folder_of(file) == labels and tree.is_picture(file)
        }
        channels: dict[str, list[str]] = defaultdict(list)
        for file in tree.files:
            if folder_of(file) == images and tree.is_picture(file):
                named = CHANNEL.match(stem(file))
                case = stem(file) if named is None or stem(file) in masks else named["case"]
                channels[case].append(file)
        return [
            ImageRecord(
                files[0],
                (split or "train") if case in masks else None,
                masks=[masks[case]] if case in masks else [],
                channels=files[1:],
                annotated=case in masks,
            )
            for case, files in channels.items()
        ]


def _check_value(value: Any) -> int:
    """Return the value of a label, a whole number from 0 on that a mask can hold."""
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{shorten(repr(value), 40)} is no value of a mask")
    return value


def _read_labels(path: Path) -> dict[str, list[int]]:
    """Return the values of each label of dataset.json.

    nnU-Net writes `{"liver": 1}`, the Decathlon `{"1": "liver"}`.
    """
    content = read_json(path, fix='write {"labels": {"background": 0, "lesion": 1}}')
    try:
        written = content["labels"]
        if all(str(key).isdecimal() and isinstance(name, str) for key, name in written.items()):
            written = {name: int(key) for key, name in written.items()}
        labels = {
            str(name): [
                _check_value(each) for each in (value if isinstance(value, list) else [value])
            ]
            for name, value in written.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{path} has no usable 'labels' ({error}); write"
            ' {"labels": {"background": 0, "lesion": 1}}'
        ) from error
    return labels
