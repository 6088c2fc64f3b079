"""ChestX-Det: 13 classes of findings as polygons in JSON."""

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
from datamodules.errors import MAX_FILE_BYTES, ManifestError, UserError
from datamodules.formats.file_content import read_json, shorten
from datamodules.formats.image_files import is_image_file
from datamodules.formats.outlines import is_finite_number
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
ENTRY_KEYS = ("syms", "boxes", "polygons")  # lists of an entry; each finding has one item in each
# fraction of the longer side; a polygon further outside belongs to an image of another size
OUTSIDE_TOLERANCE = 0.05
BOX_TOLERANCE = 2.0  # pixels


@dataclass(frozen=True)
class Finding:
    """One finding of an image.

    Attributes:
        name: One of FINDING_CLASSES.
        box: `[x1, y1, x2, y2]` in pixels as in the file; it is only compared with the polygon.
        polygon: x and y in pixels, at least 3 points.
    """

    name: str
    box: Any
    polygon: list[tuple[float, float]]

    @property
    def box_matches_polygon(self) -> bool:
        """True if the box matches the polygon to within BOX_TOLERANCE."""
        xs, ys = zip(*self.polygon, strict=True)
        own = (min(xs), min(ys), max(xs), max(ys))
        numbers = (
            isinstance(self.box, list)
            and len(self.box) == 4
            and all(map(is_finite_number, self.box))
        )
        return (
            numbers
            and max(abs(stated - actual) for stated, actual in zip(self.box, own, strict=True))
            <= BOX_TOLERANCE
        )


def read_chestx_det(path: Path, max_bytes: int = MAX_FILE_BYTES) -> dict[str, list[Finding]]:
    """Read the findings of each image name, in file order; images without findings have [].

    Args:
        path: The file.
        max_bytes: Largest file that is read, in bytes.

    Raises:
        ManifestError: The file is missing or malformed; an image is listed twice; a name leaves the
            folder; the lists of an entry differ in length; a class is not one of FINDING_CLASSES;
            or a polygon has fewer than 3 points (without it the network would learn the finding as
            background) or a value that is not a finite number.
    """
    if not path.exists():
        raise ManifestError(
            f"{path} does not exist; restore the file, or set datamodule.root to the folder that"
            " holds it"
        )
    content = read_json(path, max_bytes, "restore the file from its source")
    if not isinstance(content, list) or not content:
        raise ManifestError(
            f"{path} is not a list of images; name ChestX-Det's own file, a list of"
            f" {{file_name, syms,"
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
    """Return the end of a message that names the most similar known class, or all of them."""
    lower = {other.lower(): other for other in known}
    near = get_close_matches(str(name).lower(), lower, 1)
    return f"write '{lower[near[0]]}'" if near else f"choose from {', '.join(known)}"


def outline_rle(finding: Finding, height: int, width: int, where: str) -> tuple[Rle | None, bool]:
    """Fill a finding's polygon at the image's own size.

    Args:
        finding: Finding with the polygon.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        where: File and image, for the error message.

    Returns:
        The filled polygon, or None if it covers no pixel; and True if it was cut off at the border.

    Raises:
        ManifestError: The polygon extends further beyond the image than OUTSIDE_TOLERANCE.
    """
    excess = max(max(-x, x - width, -y, y - height) for x, y in finding.polygon)
    if excess > OUTSIDE_TOLERANCE * max(height, width):
        raise ManifestError(
            f"{where} has a '{finding.name}' that extends {excess:.3g} pixels beyond the"
            f" {width} x {height} image; use the images at the size at which they were"
            " annotated (1024 x 1024 in the published set), or correct the polygon"
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
    if not isinstance(name, str) or not name or "\0" in name:
        raise ManifestError(
            f"{path}: entry {number} has no file_name; restore the file from its source"
        )
    if Path(name).name != name or "\\" in name:
        raise ManifestError(
            f"{path}: file_name '{name}' leaves the folder of the images; correct the name, because"
            " only files in that folder are read"
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
    if not isinstance(name, str) or name not in FINDING_CLASSES:
        raise ManifestError(
            f"{where} has a finding '{shorten(str(name), 40)}', which is none of the"
            f" {len(FINDING_CLASSES)} classes; {suggest_class(name, list(FINDING_CLASSES))}"
        )
    if not isinstance(polygon, list) or len(polygon) < 3:
        raise ManifestError(
            f"{where} has a '{name}' whose polygon has fewer than 3 points; outline it again (a box"
            " is never used in its place)"
        )
    if not all(
        isinstance(point, list) and len(point) == 2 and all(map(is_finite_number, point))
        for point in polygon
    ):
        raise ManifestError(
            f"{where} has a '{name}' whose polygon holds a point that is not two finite numbers x"
            " and y; correct it"
        )
    return name, box, [(point[0], point[1]) for point in polygon]


ANNOTATED_SPLITS = ("train", "test")
FOLDER_NAMES = (
    "{0}_data/{0}",
    "{0}_data",
    "{0}",
    "images/{0}_data",
    "images/{0}",
    "images",
    ".",
)  # possible folders of a split's images, below the root
FindingsBySplit = dict[str, dict[str, list[Finding]]]  # split -> file name -> findings


@validated
class ChestXDetDataModule(ManifestDataModule):
    """ChestX-Det: one row per image with one mask per class, None for a class that is absent.

    Patients are unknown.

    Args:
        classes: Classes to use, in channel order; None uses all 13.
        unmatched: `drop` and count images without an annotation and annotations whose image is
            missing, or `refuse` them.
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
            if not isinstance(name, str) or name not in FINDING_CLASSES:
                raise UserError(
                    f"datamodule.classes names '{name}', which ChestX-Det does not have;"
                    f" {suggest_class(name, list(FINDING_CLASSES))}"
                )
        if not self.classes or len(set(self.classes)) < len(self.classes):
            wrong = (
                "names a class twice; name each once"
                if self.classes
                else "names no class; set null for all"
            )
            raise UserError(f"datamodule.classes={list(self.classes)} {wrong}")

    def manifest(self) -> Manifest:
        """Return the images of both files; `self.cleaning` lists what was left out or repaired."""
        found = {
            split: read_chestx_det(self.root / f"ChestX_Det_{split}.json", self.max_file_bytes)
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
                present = ", ".join(f"'{other}'" for other in FINDING_CLASSES if frequency[other])
                raise ManifestError(
                    f"{self.root} has no finding '{name}'; set datamodule.classes and"
                    f" module.classes"
                    f" to some of {present}"
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
        n_found = {
            place: sum((place / name).is_file() for name in names)
            for place in places
            if place.is_dir()
        }
        best = max(n_found, key=lambda place: n_found[place])
        if not n_found[best]:
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
            if is_image_file(path)
        ]
        strays = [str(path.relative_to(self.root)) for path in files if path not in named]
        for what, names in (
            ("annotated image that is missing", missing),
            ("image without an annotation", strays),
        ):
            if names and self.unmatched == "refuse":
                problem = f"{len(names)} times an {what}, such as '{names[0]}'"
                raise ManifestError(
                    f"{self.root}: {problem}; complete the download, or set"
                    f" datamodule.unmatched=drop"
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
        present = [name for name, mask in zip(self.classes, masks, strict=True) if mask]
        return {
            "id": f"{split}/{image.name}",
            "image": str(image),
            "mask": masks,
            "label": [int(mask is not None) for mask in masks],
            "split": split,
            "stratum": (
                min(present, key=lambda name: frequency[name]) if present else NO_LESION
            ),  # the image's rarest class, so that val gets a tenth of the rare classes too
        }

    def _class_masks(self, id: str, image: Path, findings: list[Finding]) -> list[Rle | None]:
        """Return the union of each class's findings, or None for a class without findings.

        The image's own size is read from its header.
        """
        parts: dict[str, list[Rle]] = {name: [] for name in self.classes}
        height, width = self.reader.read_size(image) if findings else (0, 0)
        for finding in findings:
            rle, cut = outline_rle(finding, height, width, f"{self.root}: '{id}'")
            self._count_irregularities(id, finding, rle, cut)
            if rle in parts.get(finding.name, []):
                self.cleaning.count("exact duplicate finding: counts once", f"{id} {finding.name}")
            elif rle and finding.name in parts:
                parts[finding.name].append(rle)
        return [_merge_rles(rles) if rles else None for rles in parts.values()]

    def _count_irregularities(self, id: str, finding: Finding, rle: Rle | None, cut: bool) -> None:
        if not finding.box_matches_polygon:
            self.cleaning.count(
                "box that differs by more than 2 px from its polygon: the polygon is used", id
            )
        if cut:
            self.cleaning.count("polygon that extends beyond the image: cut off at the border", id)
        if rle is None:
            self.cleaning.count("polygon that covers no pixel: left out", f"{id} {finding.name}")


def _merge_rles(parts: list[Rle]) -> Rle:
    merged = coco_mask.merge(parts)
    return {"size": merged["size"], "counts": merged["counts"].decode()}
