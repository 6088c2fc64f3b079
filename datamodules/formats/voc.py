"""Reader of Pascal VOC annotations: one XML per image, with the image's size and named boxes.

Files are read with defusedxml, because they come from untrusted sources.

Format: http://host.robots.ox.ac.uk/pascal/VOC/ (Everingham et al. 2010), as LabelImg writes it
"""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from datamodules.errors import ManifestError

CORNER_TAGS = ("xmin", "ymin", "xmax", "ymax")
EXPORT_HINT = "export it again, or remove the file"
Corners = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels; a pixel's edges count


@dataclass(frozen=True)
class VocAnnotation:
    """Content of an annotation file.

    Attributes:
        path: The file, for later error messages.
        size: Height and width in pixels of the annotated image; None if the file has none, or 0.
        objects: Name and corners of every box, in the file's order; corners are finite with `x1 <=
            x2` and `y1 <= y2`.
    """

    path: Path
    size: tuple[int, int] | None
    objects: tuple[tuple[str, Corners], ...]


def read_voc(path: Path) -> VocAnnotation:
    """Read one file; corners are taken as edges, unchanged.

    Raises:
        ManifestError: The file is missing, is not XML, declares entities (they can grow without
            bounds, or read other files) or is not an annotation; an object has no name or lacks a
            corner; a corner is not a finite number; or a box is inverted.
    """
    try:
        root = parse(path).getroot()
    except DefusedXmlException as error:
        raise ManifestError(
            f"{path} declares an entity ({type(error).__name__}), which no annotation needs;"
            f" {EXPORT_HINT}"
        ) from error
    except (ParseError, ValueError, LookupError, OSError) as error:
        raise ManifestError(
            f"{path} is not XML that can be read ({error}); {EXPORT_HINT}"
        ) from error
    if root is None or root.tag != "annotation":
        raise ManifestError(
            f"{path} is not a Pascal VOC annotation (its root is <{getattr(root, 'tag', '')}>);"
            f" {EXPORT_HINT}"
        )
    objects = [
        _parse_object(entry, f"object {number} of {path}")
        for number, entry in enumerate(root.findall("object"), start=1)
    ]
    return VocAnnotation(path, _parse_size(root, path), tuple(objects))


def fit_to_image(
    voc: VocAnnotation, corners: Corners, height: int, width: int, tolerance: float
) -> Corners:
    """Clip one of the annotation's boxes to the image; its area may become 0.

    Args:
        voc: Annotation of the box.
        corners: The box.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        tolerance: Pixels by which the box may extend beyond the image.

    Raises:
        ManifestError: The box extends further.
    """
    x1, y1, x2, y2 = corners
    excess = max(-x1, -y1, x2 - width, y2 - height)
    if excess > tolerance:
        raise ManifestError(
            f"{voc.path} has the box {_format_corners(corners)}, which extends {excess:g} pixels"
            f" beyond"
            f" the {width} x {height} image; correct it, or remove the file"
        )
    return (
        min(max(x1, 0.0), width),
        min(max(y1, 0.0), height),
        min(max(x2, 0.0), width),
        min(max(y2, 0.0), height),
    )


def _parse_object(entry: Element, where: str) -> tuple[str, Corners]:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise ManifestError(f"{where} has no <name>; name it, or remove it")
    x1, y1, x2, y2 = (
        _parse_number(entry.findtext(f"bndbox/{corner}"), corner, f"{where} ('{name}')")
        for corner in CORNER_TAGS
    )
    if x1 > x2 or y1 > y2:
        raise ManifestError(
            f"{where} ('{name}') has the inverted box {_format_corners((x1, y1, x2, y2))}; write"
            " xmin < xmax and ymin < ymax"
        )
    return name, (x1, y1, x2, y2)


def _parse_size(root: Element, path: Path) -> tuple[int, int] | None:
    if root.find("size") is None:
        return None
    height, width = (
        _parse_number(root.findtext(f"size/{side}"), side, f"the size of {path}")
        for side in ("height", "width")
    )
    return (int(height), int(width)) if height > 0 and width > 0 else None


def _parse_number(text: str | None, what: str, where: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ManifestError(
            f"{where} has {f'{what} {text.strip()!r}' if text else f'no <{what}>'}; write a finite"
            " number there"
        )
    return number


def _format_corners(corners: Corners) -> str:
    return ", ".join(f"{value:g}" for value in corners)
