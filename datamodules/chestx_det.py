"""ChestX-Det: 13 classes of findings as polygons in JSON."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pycocotools import mask as coco_mask

from datamodules.arguments import Names, validated
from datamodules.base import ManifestDataModule
from datamodules.errors import ManifestError, UserError
from datamodules.formats.image_io import IMAGE_SUFFIXES, read_image_size
from datamodules.formats.rle import Rle
from datamodules.manifest.manifest import Manifest
from datamodules.sampling.strata import NO_LESION

FINDING_CLASSES = (
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "Diffuse Nodule",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Mass",
    "Nodule",
    "Pleural Thickening",
    "Pneumothorax",
)  # as the files spell them
ENTRY_KEYS = ("syms", "boxes", "polygons")  # of an entry, one of each a finding
OUTSIDE_TOLERANCE = (
    0.05  # of the longer side: what stands out further was drawn on an image of another size
)
BOX_TOLERANCE = 2.0  # pixels


@dataclass(frozen=True)
class Finding:
    """A finding of an image.

    Attributes:
        name: One of CLASSES.
        box: `[x1, y1, x2, y2]` in pixels as the file has it; only compared with the polygon.
        polygon: x and y in pixels, at least 3 points.
    """

    name: str
    box: Any
    polygon: list[tuple[float, float]]

    @property
    def box_matches_polygon(self) -> bool:
        """Return True if the box is that of the polygon, to within BOX_TOLERANCE."""
        xs, ys = zip(*self.polygon, strict=True)
        own = (min(xs), min(ys), max(xs), max(ys))
        numbers = (
            isinstance(self.box, list)
            and len(self.box) == 4
            and all(map(_is_finite_number, self.box))
        )
        return (
            numbers
            and max(abs(said - is_) for said, is_ in zip(self.box, own, strict=True))
            <= BOX_TOLERANCE
        )


def read_chestx_det(path: Path) -> dict[str, list[Finding]]:
    """Read a file as file name to findings, in file order; images without findings have [].

    Raises:
        ManifestError: missing or malformed, an image twice, a name that leaves the folder, parts of
            different length, a class that is none of CLASSES, a polygon with fewer than 3 points
            (left out it would be learned as background), or with something else than finite
            numbers.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestError(
            f"{path} does not exist; restore the file, or set datamodule.root to the folder that"
            " holds it"
        ) from error
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{path} is not valid JSON ({error}); restore the file from its source"
        ) from error
    if not isinstance(content, list) or not content:
        raise ManifestError(
            f"{path} is no list of images; name ChestX-Det's own file, a list of {{file_name, syms,"
            " boxes, polygons}"
        )
    images: dict[str, list[Finding]] = {}
    for number, entry in enumerate(content):
        name = _parse_file_name(entry, number, path)
        if name in images:
            raise ManifestError(f"{path} lists '{name}' twice; join its findings in one entry")
        images[name] = _parse_findings(entry, f"{path}: '{name}'")
    return images


def suggest_class(name: str, known: list[str]) -> str:
    """Return, as the end of a sentence, the known name that was probably meant, or all of them."""
    lower = {other.lower(): other for other in known}
    near = get_close_matches(str(name).lower(), lower, 1)
    return f"write '{lower[near[0]]}'" if near else f"take some of {', '.join(known)}"


def outline_rle(finding: Finding, height: int, width: int, where: str) -> tuple[Rle | None, bool]:
    """Fill a finding's polygon at the image's own size.

    Args:
        finding: Holds the polygon.
        height: Of the image in pixels.
        width: Of the image in pixels.
        where: File and image, for the error.

    Returns:
        The filled polygon, None if it covers no pixel; and whether it was cut off at the border.

    Raises:
        ManifestError: it reaches further out of the image than TOLERANCE.
    """
    excess = max(max(-x, x - width, -y, y - height) for x, y in finding.polygon)
    if excess > OUTSIDE_TOLERANCE * max(height, width):
        raise ManifestError(
            f"{where} has a '{finding.name}' {excess:.0f} pixels outside the {width} x {height}"
            " image; take the images at the size they were annotated at, 1024 x 1024 in the"
            " published set, or correct the polygon"
        )
    filled = coco_mask.frPyObjects(
        [[value for point in finding.polygon for value in point]], height, width
    )[0]
    return (
        {"size": [height, width], "counts": filled["counts"].decode()}
        if coco_mask.area(filled)
        else None
    ), excess > 0


def _parse_file_name(entry: Any, number: int, path: Path) -> str:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise ManifestError(
            f"{path}: entry {number} has no file_name; restore the file from its source"
        )
    if Path(name).name != name or "\\" in name:
        raise ManifestError(
            f"{path}: file_name '{name}' leaves the folder of the images; only files in it are"
            " read, correct the name"
        )
    return name


def _parse_findings(entry: dict[str, Any], where: str) -> list[Finding]:
    missing = [part for part in ENTRY_KEYS if not isinstance(entry.get(part), list)]
    if missing:
        raise ManifestError(f"{where} has no list '{missing[0]}'; restore the file from its source")
    if len({len(entry[part]) for part in ENTRY_KEYS}) > 1:
        counts = ", ".join(f"{len(entry[part])} {part}" for part in ENTRY_KEYS)
        raise ManifestError(
            f"{where} has {counts}, and each finding needs one of each; correct the entry"
        )
    return [
        Finding(*parts)
        for parts in map(
            _check_finding, *(entry[part] for part in ENTRY_KEYS), [where] * len(entry["syms"])
        )
    ]


def _check_finding(
    name: Any, box: Any, polygon: Any, where: str
) -> tuple[str, Any, list[tuple[float, float]]]:
    if name not in FINDING_CLASSES:
        raise ManifestError(
            f"{where} has a finding '{name}', which is none of the {len(FINDING_CLASSES)} classes;"
            f" {suggest_class(name, list(FINDING_CLASSES))}"
        )
    if not isinstance(polygon, list) or len(polygon) < 3:
        raise ManifestError(
            f"{where} has a '{name}' whose polygon has fewer than 3 points; outline it again, a box"
            " never stands in for it"
        )
    if not all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_finite_number, point))
        for point in polygon
    ):
        raise ManifestError(
            f"{where} has a '{name}' whose polygon holds a point that is not two finite numbers x"
            " and y; correct it"
        )
    return name, box, [(point[0], point[1]) for point in polygon]


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


ANNOTATED_SPLITS = ("train", "test")
FOLDER_NAMES = (
    "{0}_data/{0}",
    "{0}_data",
    "{0}",
    "images/{0}_data",
    "images/{0}",
    "images",
    ".",
)  # of a split's images, below the root
FindingsBySplit = dict[str, dict[str, list[Finding]]]  # split -> file name -> findings


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

    image_kind = "chest radiographs"

    def __init__(
        self,
        classes: Names | None = None,
        unmatched: Literal["drop", "refuse"] = "drop",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.classes = FINDING_CLASSES if classes is None else tuple(classes)
        self.unmatched = unmatched
        for name in self.classes:
            if name not in FINDING_CLASSES:
                raise UserError(
                    f"datamodule.classes names '{name}', which ChestX-Det does not have;"
                    f" {suggest_class(name, list(FINDING_CLASSES))}"
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
        found = {
            split: read_chestx_det(self.root / f"ChestX_Det_{split}.json")
            for split in ANNOTATED_SPLITS
        }
        frequency = Counter(
            finding.name
            for images in found.values()
            for findings in images.values()
            for finding in findings
        )
        for name in self.classes:
            if not frequency[name]:
                there = ", ".join(f"'{other}'" for other in FINDING_CLASSES if frequency[other])
                raise ManifestError(
                    f"{self.root} shows no '{name}'; set datamodule.classes and module.classes to"
                    f" some of {there}"
                )
        folders = {
            split: self._find_image_folder(split, list(images)) for split, images in found.items()
        }
        self._check_unmatched(found, folders)
        rows = [
            self._row(split, folders[split] / name, seen, frequency)
            for split, name, seen in self._iter_present(found, folders)
        ]
        return Manifest(pd.DataFrame(rows), self.classes, group_is="image")

    def _find_image_folder(self, split: str, names: list[str]) -> Path:
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

    def _check_unmatched(self, found: FindingsBySplit, folders: dict[str, Path]) -> None:
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
            if path.suffix.lower() in IMAGE_SUFFIXES
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

    def _iter_present(
        self, found: FindingsBySplit, folders: dict[str, Path]
    ) -> Iterator[tuple[str, str, list[Finding]]]:
        for split, images in found.items():
            for name, findings in images.items():
                if (folders[split] / name).is_file():
                    yield split, name, findings

    def _row(
        self, split: str, image: Path, findings: list[Finding], frequency: Counter[str]
    ) -> dict[str, Any]:
        masks = self._class_masks(f"{split}/{image.name}", image, findings)
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

    def _class_masks(self, id: str, image: Path, findings: list[Finding]) -> list[Rle | None]:
        """Return the union of each class's findings, None without any.

        The image's own size is read from its header.
        """
        parts: dict[str, list[Rle]] = {name: [] for name in self.classes}
        height, width = read_image_size(image) if findings else (0, 0)
        for finding in findings:
            rle, cut = outline_rle(finding, height, width, f"{self.root}: '{id}'")
            self._count_irregularities(id, finding, rle, cut)
            if rle in parts.get(finding.name, []):
                self.cleaning.count("exact duplicate finding: counts once", f"{id} {finding.name}")
            elif rle and finding.name in parts:
                parts[finding.name].append(rle)
        return [_merge_rles(of_class) if of_class else None for of_class in parts.values()]

    def _count_irregularities(self, id: str, finding: Finding, rle: Rle | None, cut: bool) -> None:
        if not finding.box_matches_polygon:
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
