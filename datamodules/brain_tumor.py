"""Brain-tumor MRI as a Roboflow COCO export."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pycocotools import mask as coco_mask

from datamodules.arguments import FilePath, Names, validated
from datamodules.base import ManifestDataModule
from datamodules.errors import ManifestError
from datamodules.formats.coco import (
    find_images,
    is_box_only,
    original_name,
    read_coco,
    segmentation_rle,
)
from datamodules.formats.image_files import is_image_file
from datamodules.formats.layout import FolderTree
from datamodules.formats.rle import Rle, union_rle
from datamodules.manifest.manifest import Manifest
from datamodules.manifest.validation import drop_straddling_copies

SPLIT_FOLDERS = {
    "train": ("train",),
    "val": ("valid", "val"),
    "test": ("test",),
}  # split -> names that its folder may have
ANNOTATION_FILE = "_annotations.coco.json"


def find_annotation_file(root: Path, split: str) -> Path:
    """Return the annotation file of a split.

    Raises:
        ManifestError: The folder of the split or the file in it does not exist.
    """
    folder = next((root / name for name in SPLIT_FOLDERS[split] if (root / name).is_dir()), None)
    if folder is None:
        raise ManifestError(
            f"{root} has no folder {' or '.join(SPLIT_FOLDERS[split])}; set datamodule.root to a"
            " COCO export with train/ valid/ test/"
        )
    path = folder / ANNOTATION_FILE
    if not path.is_file():
        raise ManifestError(
            f"{path} does not exist; export as COCO, or set datamodule.root to the folder of train/"
            " valid/ test/"
        )
    return path


AnnotatedParts = list[
    tuple[dict[str, Any], Rle]
]  # the annotations of one image that are used, with their masks


@validated
class BrainTumorDataModule(ManifestDataModule):
    """Brain-tumor MRI from a COCO export; all annotations of an image become one binary mask.

    Args:
        unannotated: `drop` images without an annotation (in this data set they show a tumor too),
            or use them as `negative`.
        boxes: `refuse` annotations that are only a box without an outline, or `fill` the box.
        categories: Names of the categories that are the lesion; None if only one is annotated.
        normalized: True if coordinates are fractions of width and height.
        cleaned_dir: Folder in which `<split>/_annotations.coco.cleaned.json` is written; None
            writes none.
        **base: As `ManifestDataModule`; `root` is the export's folder.
    """

    image_kind = "brain MRI"

    def __init__(
        self,
        unannotated: Literal["drop", "negative"] = "drop",
        boxes: Literal["refuse", "fill"] = "refuse",
        categories: Names | None = None,
        normalized: bool = False,
        cleaned_dir: FilePath | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.unannotated = unannotated
        self.boxes = boxes
        self.categories = None if categories is None else set(categories)
        self.normalized = normalized
        self.cleaned_dir = Path(cleaned_dir) if cleaned_dir else None

    def manifest(self) -> Manifest:
        """Return the cleaned export; `self.cleaning` lists what was cleaned."""
        self._contents: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, AnnotatedParts] = {}
        rows = [row for split in SPLIT_FOLDERS for row in self._split_rows(split)]
        if not rows:
            raise ManifestError(
                f"{self.root} has no annotated image; annotate some and export again"
            )
        table = drop_straddling_copies(pd.DataFrame(rows), self.split, self.cleaning)
        self._write_cleaned(set(table["id"]))
        return Manifest(table.reset_index(drop=True), classes=("tumor",), group_is="image")

    def _split_rows(self, split: str) -> list[dict[str, Any]]:
        path = find_annotation_file(self.root, split)
        content = self._contents[split] = read_coco(
            path, self.normalized, self.max_pixels, self.max_file_bytes
        )
        find_images(path, content, FolderTree(path.parent))
        self._keep_categories(path, content)
        annotations = defaultdict(list)
        for annotation in content["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
        self._count_irregularities(path.parent, content)
        rows = []
        for image in content["images"]:
            parts = self._clean_annotations(split, path, image, annotations[image["id"]])
            if parts or self.unannotated == "negative":
                rows.append(self._row(split, path.parent, image, parts))
                self._parts[rows[-1]["id"]] = parts
        return rows

    def _keep_categories(self, path: Path, content: dict[str, Any]) -> None:
        """Drop annotations of other categories than the lesion's.

        Raises:
            ManifestError: Several categories are annotated, and the user named none.
        """
        names = {category["id"]: str(category.get("name")) for category in content["categories"]}
        used = sorted({names[annotation["category_id"]] for annotation in content["annotations"]})
        if self.categories is None:
            if len(used) > 1:
                raise ManifestError(
                    f"{path} annotates several categories ({', '.join(used)}), which must not"
                    f" become one mask; name the lesion with datamodule.categories=[{used[0]}], or"
                    " take experiment=segmentation for all of them"
                )
            return
        if unknown := sorted(self.categories - set(names.values())):
            raise ManifestError(
                f"datamodule.categories names {unknown[0]}, and {path} has"
                f" {', '.join(sorted(set(names.values())))}; name some of these"
            )
        kept = []
        for annotation in content["annotations"]:
            name = names[annotation["category_id"]]
            if name in self.categories:
                kept.append(annotation)
            else:
                self.cleaning.count("annotation of another category: left out", name)
        content["annotations"] = kept

    def _count_irregularities(self, folder: Path, content: dict[str, Any]) -> None:
        listed = {image["file_name"] for image in content["images"]}
        for file in folder.iterdir():
            if file.name not in listed and is_image_file(file):
                self.cleaning.count(
                    "file that no annotation file lists: left out", f"{folder.name}/{file.name}"
                )
        used = {annotation["category_id"] for annotation in content["annotations"]}
        for category in content["categories"]:
            if category["id"] not in used:
                self.cleaning.count(
                    "category without annotations: ignored",
                    f"{folder.name}: {category['name']} ({category['id']})",
                )

    def _clean_annotations(
        self, split: str, path: Path, image: dict[str, Any], annotations: list[dict[str, Any]]
    ) -> AnnotatedParts:
        name = f"{split}/{image['file_name']}"
        parts: dict[str, tuple[dict[str, Any], Rle]] = {}
        for annotation in annotations:
            if is_box_only(annotation) and self.boxes == "refuse":
                raise ManifestError(
                    f"{path}: annotation {annotation['id']} of '{image['file_name']}' is a box"
                    " without an outline; fill boxes with datamodule.boxes=fill, or outline the"
                    " lesion"
                )
            rle, repairs = segmentation_rle(annotation, image, path)
            if is_box_only(annotation):
                self.cleaning.count("box without outline: filled", name)
            for repair in repairs:
                self.cleaning.count(repair, name)
            if rle is not None and rle["counts"] in parts:
                self.cleaning.count("exact duplicate annotation: dropped", name)
                continue
            if rle is None or not coco_mask.area(rle):
                self.cleaning.count("outline that covers no pixel: dropped", name)
                continue
            parts[rle["counts"]] = (annotation, rle)
        if len(parts) > 1:
            self.cleaning.count("lesion in several parts: merged into one mask", name)
        if not parts:
            self.cleaning.count(
                "image without annotation:"
                f" {'dropped' if self.unannotated == 'drop' else 'used as negative'}",
                name,
            )
        return list(parts.values())

    def _row(
        self, split: str, folder: Path, image: dict[str, Any], parts: AnnotatedParts
    ) -> dict[str, Any]:
        return {
            "id": f"{split}/{image['file_name']}",
            "image": str(folder / image["file_name"]),
            "group": original_name(image["file_name"]) or f"{split}/{image['file_name']}",
            "mask": [union_rle([rle for _, rle in parts])],
            "height": image["height"],
            "width": image["width"],
            "split": split,
            "stratum": "tumor" if parts else "none",
        }

    def _write_cleaned(self, kept: set[str]) -> None:
        """Write the kept annotations as COCO, with the masks that training uses as RLE."""
        for split, content in self._contents.items() if self.cleaned_dir else ():
            images = [
                image for image in content["images"] if f"{split}/{image['file_name']}" in kept
            ]
            parts = [
                part for image in images for part in self._parts[f"{split}/{image['file_name']}"]
            ]
            used = {annotation["category_id"] for annotation, _ in parts}
            cleaned = content | {
                "images": images,
                "annotations": [
                    annotation | {"area": float(coco_mask.area(rle)), "segmentation": rle}
                    for annotation, rle in parts
                ],
                "categories": [
                    category for category in content["categories"] if category["id"] in used
                ],
            }
            folder = Path(self.cleaned_dir or "") / split
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "_annotations.coco.cleaned.json").write_text(
                json.dumps(cleaned), encoding="utf-8"
            )
