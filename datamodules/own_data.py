"""Any folder of images with masks, outlines or labels, in the layout that it happens to have."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from datamodules.arguments import ArgumentError, Names, PositiveInt, validated
from datamodules.base import ManifestDataModule
from datamodules.data_root import check_root
from datamodules.errors import ManifestError
from datamodules.formats.layout import (
    FolderTree,
    ImageRecord,
    LayoutContent,
    LayoutOptions,
    complete_splits,
    list_files,
)
from datamodules.formats.registry import LAYOUT_NAMES, LayoutMatch, find_layout
from datamodules.formats.rle import Rle, union_rle
from datamodules.formats.volume_slices import expand_volumes, slice_ids
from datamodules.formats.volumes import forget_volumes
from datamodules.manifest.manifest import Manifest, check_channel_count
from datamodules.manifest.validation import drop_straddling_copies

NEGATIVE_WORDS = {
    *("normal", "negative", "healthy", "benign", "none", "control", "no", "false", "0", "absent"),
    *("o.b.", "o. b.", "ob", "gesund", "unauffällig", "sain", "sano"),
    *("no_finding", "no finding", "nofinding", "background", "clear"),
}  # names of the class "nothing found"; with two classes the other one is the positive class


@validated
class OwnDataModule(ManifestDataModule):
    """Data set of a folder whose layout is found by looking at it.

    Args:
        task: `masks` for a segmentation, `labels` for a classification.
        layout: Name of the layout; `auto` takes the only one that the folder has.
        classes: Classes to learn, in this order; None takes all that the data have.
        empty_slices: `keep` the slices of volumes that show no label, or `drop` them.
        unannotated: What an image without any annotation is: `drop` leaves it out, `negative` takes
            it as an image without a lesion, `refuse` ends the run.
        boxes: `refuse` annotations that are only a box without an outline, or `fill` the box.
        normalized: True if the coordinates of outlines are fractions of width and height.
        group_pattern: Regular expression that is searched in an image's path; its first group is
            the patient. None takes what the layout knows.
        columns: Columns of a table: `{image: path, label: finding, group: patient}`.
        table: File of the table below `root`; None takes the only one.
        rle_size: Side in pixels of the images that run lengths of a table were made for, `image`
            for each image's own size; None refuses them, because they do not say it.
        image_kind: What the images are, in the plural, for the heading of the page; empty for the
            name of the folder.
        **base: As `ManifestDataModule`.
    """

    def __init__(
        self,
        task: Literal["masks", "labels"] = "masks",
        layout: str = "auto",
        classes: Names | None = None,
        unannotated: Literal["drop", "negative", "refuse"] = "drop",
        empty_slices: Literal["keep", "drop"] = "keep",
        boxes: Literal["refuse", "fill"] = "refuse",
        normalized: bool = False,
        group_pattern: str | None = None,
        columns: Mapping[str, str] | None = None,
        table: str | None = None,
        rle_size: PositiveInt | Literal["image"] | None = None,
        image_kind: str = "",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if layout not in ("auto", *LAYOUT_NAMES):
            raise ArgumentError(
                "OwnDataModule",
                ("layout",),
                f"={layout} is unknown; choose auto or one of {', '.join(LAYOUT_NAMES)}",
            )
        self.task, self.layout = task, layout
        self.class_names = tuple(classes or ())
        self.unannotated, self.empty_slices, self.boxes = unannotated, empty_slices, boxes
        self.group_pattern = None if group_pattern is None else _compile(group_pattern)
        self.options = LayoutOptions(
            normalized, columns or {}, None if table is None else Path(table).as_posix(), rle_size
        )
        self.image_kind = image_kind

    @cached_property
    def tree(self) -> FolderTree:
        """All files below the root."""
        check_root(self.root)
        tree = FolderTree(self.root, self.reader)
        if tree.special:
            raise ManifestError(
                f"{self.root / tree.special[0]} is a pipe, a socket, a device or a link to nothing"
                f" ({len(tree.special)} in all below {self.root}), which cannot be read; remove it,"
                " or restore the file that it stands for"
            )
        return tree

    @cached_property
    def match(self) -> LayoutMatch:
        """The layout that the folder has, and why."""
        return find_layout(self.tree, self.task, self.layout, self.options)

    def describe_layout(self) -> dict[str, str]:
        """Return the layout and why it was recognized."""
        return {"layout": f"{self.match.layout.name}: {self.match.reason}"}

    def manifest(self) -> Manifest:
        """Return one row per image; `self.cleaning` lists what was repaired or left out."""
        content = self.match.layout.read(self.tree, self.options)
        for reason, file in content.counted:
            self.cleaning.count(reason, file)
        records = expand_volumes(self.tree, self._annotated(content.records), self.axis)
        if sentence := complete_splits(records):
            self.cleaning.count(sentence, self.root.name)
        if self.mask_values is None and content.mask_values:
            self.mask_values = dict(content.mask_values)
        if self.ignore_value is None:
            self.ignore_value = content.ignore_value
        group_is = self._assign_groups(records, content)
        if self.task == "labels":
            return self._labelled(records, content, group_is)
        return self._masked(records, content, group_is)

    def read_manifest(self) -> Manifest:
        """Return the manifest, without the slices that `empty_slices` drops."""
        manifest = super().read_manifest()
        if self.empty_slices == "keep" or "slice" not in manifest.rows or self.task == "labels":
            return manifest
        with ThreadPoolExecutor() as pool:
            shows = np.array(
                list(pool.map(lambda row: _is_drawn(manifest, row), range(len(manifest))))
            )
        forget_volumes()
        for id in manifest.rows["id"][~shows]:
            self.cleaning.count("slice without a label: left out (datamodule.empty_slices)", id)
        if not shows.any():
            raise ManifestError(
                f"{self.root}: no slice has a label; set datamodule.empty_slices=keep, or check the"
                " masks"
            )
        return replace(manifest, rows=manifest.rows[shows].reset_index(drop=True))

    def _annotated(self, records: list[ImageRecord]) -> list[ImageRecord]:
        """Return the records to use, by `unannotated`."""
        without = [record for record in records if not record.annotated]
        if self.task == "labels" and self.unannotated == "negative":
            raise ManifestError(
                "datamodule.unannotated=negative is for masks; write the label of each image, or"
                " set datamodule.unannotated=drop"
            )
        if without and self.unannotated == "refuse":
            raise ManifestError(
                f"{self.root}: {len(without)} images have no annotation, such as"
                f" {list_files(record.image for record in without)}; set"
                " datamodule.unannotated=drop to leave them out, or negative if they show no lesion"
            )
        left_out = "image without annotation: left out"
        if self.task == "masks":
            left_out += " (datamodule.unannotated=negative uses it)"
        what = {
            "drop": left_out,
            "negative": "image without annotation: used as an image without a lesion",
        }
        for record in without:
            self.cleaning.count(what[self.unannotated], record.image)
        kept = [r for r in records if r.annotated or self.unannotated == "negative"]
        if not kept:
            raise ManifestError(
                f"{self.root}: none of the {len(records)} images has an annotation; annotate some,"
                " or check that their names match"
            )
        return kept

    def _assign_groups(self, records: list[ImageRecord], content: LayoutContent) -> str:
        """Set the group of each record by `group_pattern`; return what groups are."""
        if self.group_pattern is None:
            known = content.group_is == "patient" or any(record.slice for record in records)
            return "patient" if known else content.group_is
        for record in records:
            found = self.group_pattern.search(record.image)
            if found is None:
                raise ManifestError(
                    f"datamodule.group_pattern={self.group_pattern.pattern} does not occur in"
                    f" {record.image}; correct it, so that it finds the patient of every image"
                )
            record.group = found.group(1)
        return "patient"

    def _rows(self, records: Sequence[ImageRecord]) -> list[dict[str, Any]]:
        files = list(dict.fromkeys(record.image for record in records))
        name = dict(zip(files, unique_ids(files), strict=True))
        names = [name[record.image] for record in records]
        ids = slice_ids(names, [record.slice for record in records])
        sizes_known = any(record.size for record in records)
        any_channels = any(record.channels for record in records)
        volumes = any(record.slice is not None for record in records)
        rows = []
        for id, record in zip(ids, records, strict=True):
            row: dict[str, Any] = {
                "id": id,
                "image": str(self.tree.path(record.image)),
                "group": record.group or name[record.image],
            }
            if any_channels:
                path = self.tree.path(record.image)
                check_channel_count(path, 1 + len(record.channels), self.channels)
                row["channel_files"] = [str(self.tree.path(file)) for file in record.channels]
            if volumes:
                row["axis"], row["slice"] = record.slice or (None, None)
                row["spacing_mm"] = None if record.spacing is None else list(record.spacing)
            if record.split is not None:
                row["split"] = record.split
            if sizes_known:
                size = record.size or self.tree.image_size(record.image)
                row["height"], row["width"] = size
            rows.append(row)
        return rows

    def _masked(
        self, records: list[ImageRecord], content: LayoutContent, group_is: str
    ) -> Manifest:
        """Return the manifest of a segmentation: paths of mask images, or outlines as RLEs."""
        by_outline = not any(record.masks for record in records)
        classes = self.class_names or tuple(content.classes)
        if by_outline:
            self._check_classes(classes, content)
        rows = self._rows(records)
        for row, record in zip(rows, records, strict=True):
            if by_outline:
                row["mask"] = self._outlines(record, classes)
                shown = [n for n, rle in zip(classes, row["mask"], strict=True) if rle is not None]
                row["stratum"] = "+".join(shown) or "none"
            else:
                paths = [str(self.tree.path(mask)) for mask in record.masks]
                row["mask"] = paths[0] if len(paths) == 1 else (paths or None)
        table = _as_table(rows)
        table["mask"] = pd.Series([row["mask"] for row in rows], dtype=object)
        if group_is == "image" and "split" in table:
            table = drop_straddling_copies(table, self.split, self.cleaning).reset_index(drop=True)
        return Manifest(table, classes, group_is)

    def _outlines(self, record: ImageRecord, classes: Sequence[str]) -> list[Rle | None]:
        """Return the union of an image's outlines of each class, as compressed RLE."""
        parts: dict[str, list[Rle]] = {name: [] for name in classes}
        for outline in record.outlines:
            if outline.name not in parts:
                self.cleaning.count("outline of another class: left out", outline.name)
                continue
            if outline.box_only and self.boxes == "refuse":
                raise ManifestError(
                    f"{outline.where} is a box without an outline; fill boxes with"
                    " datamodule.boxes=fill, or outline the lesion"
                )
            if outline.box_only:
                self.cleaning.count("box without outline: filled", record.image)
            if outline.rle in parts[outline.name]:
                self.cleaning.count("exact duplicate annotation: dropped", record.image)
            elif not coco_mask.area(outline.rle):
                self.cleaning.count("outline that covers no pixel: dropped", record.image)
            else:
                parts[outline.name].append(outline.rle)
        return [union_rle(parts[name]) for name in classes]

    def _check_classes(self, classes: Sequence[str], content: LayoutContent) -> None:
        unknown = [name for name in classes if name not in content.classes]
        if unknown or not classes:
            raise ManifestError(
                f"module.classes names {unknown[0] if unknown else 'nothing'}, and {self.root} has"
                f" {', '.join(content.classes) or 'no annotated class'}; name some of these"
            )

    def _labelled(
        self, records: list[ImageRecord], content: LayoutContent, group_is: str
    ) -> Manifest:
        """Return the manifest of a classification.

        Two classes of which one means "nothing found" are one positive class; other classes are
        exclusive, unless an image has several labels.
        """
        names = tuple(content.classes)
        rows = self._rows(records)
        several = any(isinstance(record.label, list) for record in records)
        if several:
            classes = self.class_names or names
            self._check_classes(classes, content)
            for row, record in zip(rows, records, strict=True):
                row["label"] = [int(name in (record.label or [])) for name in classes]
                row["stratum"] = "+".join(record.label or []) or "none"
            return Manifest(_as_table(rows), classes, group_is)
        if len(names) < 2:
            raise ManifestError(
                f"{self.root} has one label only ({', '.join(map(str, names)) or 'none'}); a"
                " classification needs two or more"
            )
        negative = [name for name in names if name.casefold() in NEGATIVE_WORDS]
        wanted = self.class_names
        if len(wanted) == 1 and len(names) == 2 and wanted[0] in names:
            positive = wanted[0]
        elif not wanted and len(names) == 2 and len(negative) == 1:
            positive = next(name for name in names if name not in negative)
        else:
            return self._exclusive(rows, records, names, group_is)
        for row, record in zip(rows, records, strict=True):
            row["label"], row["stratum"] = int(record.label == positive), record.label
        return Manifest(_as_table(rows), (positive,), group_is)

    def _exclusive(
        self,
        rows: list[dict[str, Any]],
        records: Sequence[ImageRecord],
        names: tuple[str, ...],
        group_is: str,
    ) -> Manifest:
        classes = self.class_names or names
        if set(classes) != set(names):
            raise ManifestError(
                f"module.classes={list(classes)}, and the labels in {self.root} are"
                f" {', '.join(names)}; name all of them, or the positive one of two"
            )
        for row, record in zip(rows, records, strict=True):
            row["label"], row["stratum"] = classes.index(str(record.label)), record.label
        return Manifest(_as_table(rows), classes, group_is, exclusive=True)


def _as_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table in which missing slices stay None."""
    table = pd.DataFrame(rows)
    for name in {"axis", "slice", "spacing_mm"} & set(table):
        table[name] = pd.Series([row[name] for row in rows], dtype=object)
    return table


def _is_drawn(manifest: Manifest, row: int) -> bool:
    """Return True for a row that is no slice, or whose slice has a label."""
    masks = () if manifest.slice_index(row) is None else manifest.rles(row)
    return manifest.slice_index(row) is None or any(rle and coco_mask.area(rle) for rle in masks)


def unique_ids(files: Sequence[str]) -> list[str]:
    """Return one id per file: its path without suffix, or with it where that would be ambiguous."""
    plain = [unicodedata.normalize("NFC", re.sub(r"(\.nii)?\.[^./]*$", "", file)) for file in files]
    often = Counter(plain)
    return [
        name if often[name] == 1 else unicodedata.normalize("NFC", file)
        for name, file in zip(plain, files, strict=True)
    ]


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ArgumentError(
            "OwnDataModule", ("group_pattern",), f"={pattern} is no regular expression ({error})"
        ) from error
    if not compiled.groups:
        raise ArgumentError(
            "OwnDataModule",
            ("group_pattern",),
            f"={pattern} has no group; put the patient into parentheses, such as '(case\\d+)_'",
        )
    return compiled
