"""ChestX-Det's annotation files, checked entry by entry.

A file is a list of images, each with its findings as class, box and polygon.
"""

import json
import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from datamodules.formats.rle import Rle
from datamodules.refusal import ManifestError

CLASSES = (
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
PARTS = ("syms", "boxes", "polygons")  # of an entry, one of each a finding
TOLERANCE = (
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
    def box_agrees(self) -> bool:
        """Return True if the box is that of the polygon, to within BOX_TOLERANCE."""
        xs, ys = zip(*self.polygon, strict=True)
        own = (min(xs), min(ys), max(xs), max(ys))
        numbers = (
            isinstance(self.box, list) and len(self.box) == 4 and all(map(_is_number, self.box))
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
        name = _class_name(entry, number, path)
        if name in images:
            raise ManifestError(f"{path} lists '{name}' twice; join its findings in one entry")
        images[name] = _findings(entry, f"{path}: '{name}'")
    return images


def nearest_class(name: str, known: list[str]) -> str:
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
    if excess > TOLERANCE * max(height, width):
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


def _class_name(entry: Any, number: int, path: Path) -> str:
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


def _findings(entry: dict[str, Any], where: str) -> list[Finding]:
    missing = [part for part in PARTS if not isinstance(entry.get(part), list)]
    if missing:
        raise ManifestError(f"{where} has no list '{missing[0]}'; restore the file from its source")
    if len({len(entry[part]) for part in PARTS}) > 1:
        counts = ", ".join(f"{len(entry[part])} {part}" for part in PARTS)
        raise ManifestError(
            f"{where} has {counts}, and each finding needs one of each; correct the entry"
        )
    return [
        Finding(*parts)
        for parts in map(
            _check_finding, *(entry[part] for part in PARTS), [where] * len(entry["syms"])
        )
    ]


def _check_finding(
    name: Any, box: Any, polygon: Any, where: str
) -> tuple[str, Any, list[tuple[float, float]]]:
    if name not in CLASSES:
        raise ManifestError(
            f"{where} has a finding '{name}', which is none of the {len(CLASSES)} classes;"
            f" {nearest_class(name, list(CLASSES))}"
        )
    if not isinstance(polygon, list) or len(polygon) < 3:
        raise ManifestError(
            f"{where} has a '{name}' whose polygon has fewer than 3 points; outline it again, a box"
            " never stands in for it"
        )
    if not all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))
        for point in polygon
    ):
        raise ManifestError(
            f"{where} has a '{name}' whose polygon holds a point that is not two finite numbers x"
            " and y; correct it"
        )
    return name, box, [(point[0], point[1]) for point in polygon]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
