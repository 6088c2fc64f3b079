"""Boxes of a bone scan's XML: Abnormal ones, and Normal ones (physiological uptake) apart."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from datamodules.cleaning import CleaningReport
from datamodules.formats.voc import Corners, fit_to_image, read_voc
from datamodules.refusal import ManifestError

VIEW_COLUMNS = {"abnormal": "boxes", "normal": "physiological"}  # by an object's name in lower case
Boxes = dict[str, list[list[float]]]


@dataclass(frozen=True)
class BoneBoxes:
    """Reads the boxes of each image, those of `wholeBodyANT/1.jpg` from `wholeBodyANT/ant/1.xml`.

    Attributes:
        tolerance: Pixels by which a box may reach beyond its image; it is cut off at the border.
        bad: What to do with a file that cannot be used: `refuse`, or `drop`, so that nothing is
            known of its image's boxes.
        cleaning: Takes the counts of what was cut, left out or odd.
    """

    tolerance: float
    bad: str
    cleaning: CleaningReport

    def columns(self, rows: pd.DataFrame) -> dict[str, pd.Series]:
        """Return the columns `boxes` and `physiological`; None where an image has no usable XML.

        Each cell is a list of [x1, y1, x2, y2] in the image's own pixels.

        Args:
            rows: With `id`, `image`, `view`, `label`, `height` and `width`.

        Raises:
            ManifestError: a file that cannot be used, and `bad` is not `drop`.
        """
        found = [self._image_boxes(*row) for row in self._attach_files(rows)]
        return {
            name: pd.Series([boxes and boxes[name] for boxes in found], rows.index, dtype=object)
            for name in VIEW_COLUMNS.values()
        }

    def _attach_files(self, rows: pd.DataFrame) -> Iterator[tuple[str, Path | None, int, int, int]]:
        """Id, XML, label, height and width of every row; an XML without an image is counted."""
        files: dict[str, dict[str, Path]] = {}
        images = [Path(image) for image in rows["image"]]
        for folder, view in {
            str(image.parent): view for image, view in zip(images, rows["view"], strict=True)
        }.items():
            files[folder] = _annotations(Path(folder), view)
            for stem in sorted(
                files[folder].keys()
                - {image.stem for image in images if str(image.parent) == folder}
            ):
                self.cleaning.count(
                    "XML without its image: left out", f"{Path(folder).name}/{stem}.xml"
                )
        numbers = zip(rows["label"], rows["height"], rows["width"], strict=True)
        for id, image, (label, height, width) in zip(rows["id"], images, numbers, strict=True):
            yield id, files[str(image.parent)].get(image.stem), label, height, width

    def _image_boxes(
        self, id: str, path: Path | None, label: int, height: int, width: int
    ) -> Boxes | None:
        if path is None:
            self.cleaning.count("image without an XML: nothing is known of its boxes", id)
            return None
        try:
            boxes = self._read(id, path, height, width)
        except ManifestError as error:
            if self.bad == "refuse":
                raise ManifestError(
                    f"{error}, or go on without such files with datamodule.bad_boxes=drop"
                ) from error
            self.cleaning.count(
                "XML that cannot be used: nothing is known of its image's boxes", id
            )
            return None
        if bool(boxes["boxes"]) != bool(label):
            kind = (
                "abnormal image without an Abnormal box"
                if label
                else "normal image with an Abnormal box"
            )
            self.cleaning.count(f"{kind}: the label is believed", id)
        return boxes

    def _read(self, id: str, path: Path, height: int, width: int) -> Boxes:
        voc = read_voc(path)
        if voc.size not in (None, (height, width)):
            said = (
                f"says that its image has {voc.size[0]} x {voc.size[1]} pixels, and '{id}' has"
                f" {height} x {width}"
            )
            raise ManifestError(
                f"{path} {said}; take image and XML from the same export, or remove the file"
            )
        boxes: Boxes = {name: [] for name in VIEW_COLUMNS.values()}
        for name, corners in voc.objects:
            inside = fit_to_image(voc, corners, height, width, self.tolerance)
            if inside != corners:
                self.cleaning.count("box that stands out of its image: cut off at the border", id)
            column = VIEW_COLUMNS.get(name.lower())
            if column is None:
                self.cleaning.count(
                    "box that is named neither Normal nor Abnormal: left out", f"{id} {name}"
                )
            elif not _has_area(inside):
                self.cleaning.count("box without an area: left out", id)
            else:
                boxes[column].append(list(inside))
        return boxes


def _annotations(folder: Path, view: str) -> dict[str, Path]:
    """Stem to XML of the folder's subfolder that is named as the view in lower case."""
    place = folder / view.lower()
    there = sorted(place.iterdir()) if view and place.is_dir() else []
    return {path.stem: path for path in there if path.suffix.lower() == ".xml"}


def _has_area(corners: Corners) -> bool:
    x1, y1, x2, y2 = corners
    return x2 > x1 and y2 > y1
