"""SIIM-ACR pneumothorax: chest radiographs with masks, in any of the three layouts.

The layout is found by looking at the files.

Data: https://www.kaggle.com/competitions/siim-acr-pneumothorax-segmentation
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from datamodules.arguments import FilePath, validated
from datamodules.base import ManifestDataModule
from datamodules.formats.mask_pictures import read_mask
from datamodules.formats.rle import Rle, decode, from_siim
from datamodules.formats.siim_layouts import ImageRecord, list_images
from datamodules.images import image_size
from datamodules.manifest import Manifest
from datamodules.refusal import ManifestError


@validated
class PneumothoraxDataModule(ManifestDataModule):
    """One row per image with its mask and whether it shows a pneumothorax.

    Args:
        patients: A CSV with the columns image and patient, that says which images are of one
            patient; None takes every image for itself.
        unmatched: `drop` images without annotation and annotations without image, and count them;
            or `refuse`.
        relative: Whether the RLE texts count from the end of the last run, as Kaggle's do; False
            for starts.
        **base: As `ManifestDataModule`; `root` is the data set's folder.
    """

    def __init__(
        self,
        patients: FilePath | None = None,
        unmatched: Literal["drop", "refuse"] = "drop",
        relative: bool = True,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.patients = Path(patients).expanduser() if patients else None
        self.unmatched = unmatched
        self.relative = relative

    def manifest(self) -> Manifest:
        """The images that have an annotation; what was left out stands in `self.cleaning`."""
        images = list_images(self.root, self.unmatched, self.cleaning)
        labels = self._labels(images)
        rows = [self._row(image, label) for image, label in zip(images, labels, strict=True)]
        table = pd.DataFrame(rows)
        if table["split"].isna().all():
            table = table.drop(columns="split")
        if self.patients:
            table["group"] = self._patient_of(table["id"], self.patients)
        return Manifest(table, ("pneumothorax",), "patient" if self.patients else "image")

    def _row(self, image: ImageRecord, label: int) -> dict[str, Any]:
        if image.label is not None and image.label != label:
            self.cleaning.count(
                f"name says {image.label}, mask says {label}: the mask is believed", image.id
            )
        row: dict[str, Any] = {
            "id": image.id,
            "image": str(image.image),
            "label": label,
            "split": image.split,
        }
        return row | {"mask": self._mask(image) if image.texts else str(image.mask)}

    def _mask(self, image: ImageRecord) -> list[Any] | None:
        """Return the union of an image's RLE texts; its own size is read from its header."""
        if not _drawn(image.texts):
            return None
        if len(image.texts or ()) > 1:
            self.cleaning.count("mask in several rows: joined", image.id)
        return [self._rle(image)]

    def _rle(self, image: ImageRecord) -> Rle | None:
        height, width = image_size(image.image)
        try:
            return from_siim(image.texts or (), height, width, self.relative)
        except ValueError as error:
            other = "false" if self.relative else "true"
            mend = (
                f"correct the row, or set datamodule.relative={other} if the numbers are"
                f" {'starts' if self.relative else 'gaps'}"
            )
            raise ManifestError(f"{self.root}: ImageId {image.id}: {error}; {mend}") from error

    def _is_full(self, image: ImageRecord) -> bool:
        """Tell whether an image's RLE texts cover all of it; swapped, such a mask is empty."""
        rle = self._rle(image)
        return rle is not None and bool(decode([rle], *rle["size"]).all())

    def _labels(self, images: list[ImageRecord]) -> list[int]:
        """Return 1 for each mask that is not empty, else 0.

        Mask files are read once, and their labels are remembered beside the image cache.
        """
        if images[0].mask is None:
            return [
                int(
                    _drawn(image.texts)
                    and not (self.inverted_masks == "invert" and self._is_full(image))
                )
                for image in images
            ]
        paths = [Path(str(image.mask)) for image in images]
        stamps = "\n".join(
            f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths
        )
        swap = self.inverted_masks == "invert"
        known = (
            self.cache_dir / f"labels-2-{sha256(f'{swap} {stamps}'.encode()).hexdigest()[:16]}.json"
        )  # to be raised when masks are read otherwise
        if not known.is_file():
            with ThreadPoolExecutor() as pool:
                labels = list(
                    pool.map(lambda path: int((read_mask(path).mask != swap).any()), paths)
                )
            self.cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            unfinished = known.with_suffix(
                f".{os.getpid()}.tmp"
            )  # another process may look at the same masks
            unfinished.write_text(json.dumps(labels), encoding="utf-8")
            unfinished.replace(known)
        return json.loads(known.read_text(encoding="utf-8"))

    def _patient_of(self, ids: pd.Series, path: Path) -> np.ndarray:
        try:
            table = pd.read_csv(path, dtype=str)
        except (OSError, ValueError) as error:
            raise ManifestError(
                f"datamodule.patients={path} cannot be read ({error}); name a CSV with the columns"
                " image,patient"
            ) from error
        missing = {"image", "patient"} - set(table.columns)
        if missing:
            raise ManifestError(
                f"{path} has no column {min(missing)} (it has {', '.join(table.columns)}); write"
                " image,patient"
            )
        table = table.drop_duplicates(["image", "patient"])
        twice = table["image"][table["image"].duplicated()]
        if len(twice):
            raise ManifestError(
                f"{path} gives '{twice.iloc[0]}' two patients; leave one row of each image"
            )
        patient = ids.map(table.set_index("image")["patient"])
        if patient.isna().all():
            raise ManifestError(
                f"{path} names none of the images, such as '{ids.iloc[0]}'; write their ids into"
                " its column image"
            )
        for id in ids[patient.isna()]:
            self.cleaning.count("patient unknown: taken for one of its own", id)
        return patient.to_numpy()


def _drawn(texts: tuple[str, ...] | None) -> bool:
    return any(text not in ("", "-1") for text in texts or ())
