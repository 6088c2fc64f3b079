"""Data set from a manifest: a CSV or JSON with one row per image."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from datamodules.arguments import Names, validated
from datamodules.base import ManifestDataModule
from datamodules.errors import ManifestError, UserError
from datamodules.formats.image_io import ImageReader
from datamodules.formats.meta_json import is_valid_crop
from datamodules.manifest.manifest import SPLITS, Manifest, read_manifest
from datamodules.manifest.validation import check_ground_truth

CROP_HINT = "crop only train with do=[crop], or set datamodule.mask_column=mask"


@validated
class TableDataModule(ManifestDataModule):
    """Data set of the table `root/manifest_name`; its paths are relative to the file.

    Its columns are id and image, and if known mask, group, split and stratum.

    Args:
        manifest_name: File below root: a CSV, a manifest that was written as JSON, or a
            pneumothorax meta JSON.
        classes: Names of the mask's classes; None takes those of the manifest.
        mask_column: `mask`, or `cropped_mask` to train on the squares in the column `crop` with the
            masks in the column `cropped_mask`.
        image_kind: What the images are, in the plural, such as `chest radiographs`, for the heading
            of the page; empty for the name of the folder.
        **base: As `ManifestDataModule`.
    """

    def __init__(
        self,
        manifest_name: str = "manifest.csv",
        classes: Names | None = None,
        mask_column: Literal["mask", "cropped_mask", "mask_path", "cropped_mask_path"] = "mask",
        image_kind: str = "",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.manifest_name = manifest_name
        self.class_names = tuple(classes) if classes else None
        self.mask_column = mask_column.removesuffix("_path")  # the meta JSON writes mask_path
        self.image_kind = image_kind

    def manifest(self) -> Manifest:
        """Return the table with its column `crop` renamed to `square`.

        Images are cropped only after their split is known.
        """
        path = self.root / self.manifest_name
        if not path.is_file() and (self.root / "fold0" / self.manifest_name).is_file():
            raise ManifestError(
                f"{self.root} is a run of several folds, each with its own {self.manifest_name};"
                f" name one of them, such as {self.root / 'fold0'}"
            )
        table = read_manifest(path, self.max_file_bytes)
        if "mask_is" in table.rows and self.split == "group":
            raise UserError(
                f"datamodule.split=group would make a new split of {path}, and the classifier's"
                f" test"
                " images, which have true masks, would be trained on; set datamodule.split=folders"
            )
        rows, classes = (
            table.rows.rename(columns={"crop": "square"}),
            self.class_names or table.classes,
        )
        return replace(table, rows=rows, classes=classes)

    def finalize_table(self, manifest: Manifest) -> Manifest:
        """Check that every image exists, and apply the squares if `mask_column` is `cropped_mask`.

        Raises:
            ManifestError: An image is missing, or a square cannot be used.
        """
        path = self.root / self.manifest_name
        for image in manifest.rows["image"]:
            if not Path(image).is_file():
                raise ManifestError(
                    f"{path} names {image}, which is no file; paths are relative to the"
                    " manifest's folder"
                )
        check_ground_truth(manifest)
        self._count_mask_sources(path, manifest.rows)
        if self.mask_column == "mask":
            return manifest
        rows = manifest.rows
        _check_columns(path, rows)
        used = rows["cropped_mask"].notna() & (rows["split"] == "train")
        squares = (
            rows["square"] if "square" in rows else pd.Series([None] * len(rows), dtype=object)
        )
        for row in used.to_numpy().nonzero()[0].tolist():
            _check_crops(path, rows.iloc[row], squares.iat[row], manifest.reader)
        masks = rows["mask"] if "mask" in rows else pd.Series([None] * len(rows), dtype=object)
        served = {
            "mask": masks.astype(object).where(~used, rows["cropped_mask"]),
            "whole_mask": masks,  # its size tells the orientation of the image
            "crop": squares.astype(object).where(used, None),
        }
        return replace(manifest, rows=rows.assign(**served))

    def _count_mask_sources(self, path: Path, rows: pd.DataFrame) -> None:
        """Count the sources of masks for the report; refuse a split without masks.

        This concerns only a table of pseudo masks (column `mask_is`).
        """
        if "mask_is" not in rows:
            return
        for id, split, kind in zip(rows["id"], rows["split"], rows["mask_is"], strict=True):
            self.cleaning.count(f"{split}: {kind}", id)
        for split in SPLITS:
            if not rows["mask"][rows["split"] == split].notna().any():
                fix = (
                    "relax callbacks.pseudo_labels.quality or the threshold of the run that wrote"
                    " it, with do=[predict] ckpt_path=RUN"
                )
                raise ManifestError(f"{path}: no image of split {split} has a mask; {fix}")


def _check_columns(path: Path, rows: pd.DataFrame) -> None:
    """Refuse a table whose cropped masks are missing, or reveal the label.

    They reveal it if val or test has some, or if some positives of train are not cropped.
    """
    if "cropped_mask" not in rows or rows["cropped_mask"].isna().all():
        raise ManifestError(
            f"{path} names no cropped masks, but datamodule.mask_column=cropped_mask needs them;"
            f" {CROP_HINT}"
        )
    has, train = rows["cropped_mask"].notna(), rows["split"] == "train"
    outside = rows[has & ~train]
    if len(outside):
        first = f"'{outside['id'].iat[0]}' of {outside['split'].iat[0]}"
        raise ManifestError(
            f"{path}: {len(outside)} images of val or test have a cropped mask, such as {first},"
            f" which reveals where the lesion is; {CROP_HINT}"
        )
    uncropped = rows["id"][train & ~has & (rows["label"] == 1 if "label" in rows else False)]
    if len(uncropped):
        raise ManifestError(
            f"{path}: {len(uncropped)} train images with a lesion have no cropped mask,"
            f" such as '{uncropped.iloc[0]}'; {CROP_HINT}"
        )


def _check_crops(path: Path, row: pd.Series, square: Any, reader: ImageReader) -> None:
    """Refuse a malformed square, or a mask of another size than its image without a square."""
    if isinstance(square, list | tuple):
        if not is_valid_crop(square):
            raise ManifestError(
                f"{path}: the crop of '{row['id']}' is {square}; write [top, left, side] in whole"
                " pixels"
            )
        return
    mask_size = reader.read_size(Path(row["cropped_mask"]))
    sizes = [mask_size, reader.read_size(Path(row["image"]), mask_size)]
    if sizes[0] != sizes[1]:
        (height, width), image_size = sizes
        problem = (
            f"the cropped mask of '{row['id']}' is {height} x {width} pixels and its image"
            f" {image_size[0]} x {image_size[1]}"
        )
        raise ManifestError(
            f"{path}: {problem}, and its crop is unknown; add crop: [top, left, side], or crop"
            " again with do=[crop]"
        )
