"""Reader and layout of Pascal VOC: XML with named boxes, and masks in SegmentationClass/.

Files are read with defusedxml, because they come from untrusted sources.

Format: http://host.robots.ox.ac.uk/pascal/VOC/ (Everingham et al. 2010), as LabelImg writes it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from datamodules.errors import MAX_IMAGE_PIXELS, ManifestError
from datamodules.formats.layout import (
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    Outline,
    folder_of,
    read_xml,
    split_of,
    stem,
)
from datamodules.formats.outlines import box_polygon, fill_polygons, image_side, parse_finite

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


def read_voc(path: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> VocAnnotation:
    """Read one file; corners are taken as edges, unchanged.

    Args:
        path: The file.
        max_pixels: Largest side of the image that is accepted, in pixels.

    Raises:
        ManifestError: The file is missing, is not XML, declares entities (they can grow without
            bounds, or read other files) or is not an annotation; an object has no name or lacks a
            corner; a corner is not a finite number; or a box is inverted.
    """
    root = read_xml(path, EXPORT_HINT)
    if root is None or root.tag != "annotation":
        raise ManifestError(
            f"{path} is not a Pascal VOC annotation (its root is <{getattr(root, 'tag', '')}>);"
            f" {EXPORT_HINT}"
        )
    objects = [
        _parse_object(entry, f"object {number} of {path}")
        for number, entry in enumerate(root.findall("object"), start=1)
    ]
    return VocAnnotation(path, _parse_size(root, path, max_pixels), tuple(objects))


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


def _parse_size(root: Element, path: Path, max_pixels: int) -> tuple[int, int] | None:
    if root.find("size") is None:
        return None
    where = f"the size of {path}"
    sides = {
        side: _parse_number(root.findtext(f"size/{side}"), side, where)
        for side in ("height", "width")
    }
    if not all(value > 0 for value in sides.values()):
        return None
    height, width = (
        image_side(int(value), side, where, max_pixels) for side, value in sides.items()
    )
    return height, width


def _parse_number(text: str | None, what: str, where: str) -> float:
    number = parse_finite(text)
    if number is None:
        raise ManifestError(
            f"{where} has {f'{what} {text.strip()!r}' if text else f'no <{what}>'}; write a finite"
            " number there"
        )
    return number


def _format_corners(corners: Corners) -> str:
    return ", ".join(f"{value:g}" for value in corners)


VOID = 255  # index of the borders of objects in SegmentationClass, which do not count


class VocLayout(Layout):
    """Pascal VOC: JPEGImages/ with masks in SegmentationClass/, or boxes in Annotations/."""

    name = "voc"
    task = "masks"
    looks_for = "JPEGImages/ with SegmentationClass/ or Annotations/ (Pascal VOC)"
    specializes = ("image_mask_folders",)

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize the folders of VOC, at the top or below one folder."""
        images, masks, boxes = _voc_files(tree)
        if not images or not (masks or boxes):
            return None
        kind = f"SegmentationClass/ with {len(masks)} masks" if masks else f"{len(boxes)} XML files"
        return f"JPEGImages/ with {len(images)} images, and {kind}"

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read masks if there are some, else boxes; splits are those of ImageSets/."""
        images, masks, boxes = _voc_files(tree)
        splits = _read_image_sets(tree)
        colors = _read_label_colors(tree)
        records, counted, names = [], [], []
        for name, image in images.items():
            record = ImageRecord(image, splits.get(name) or split_of(image))
            if masks:
                record.masks = [masks[name]] if name in masks else []
                record.annotated = name in masks
            elif name in boxes:
                notes = _add_boxes(tree, boxes[name], record)
                counted += [(note, image) for note in notes]
                names += [outline.name for outline in record.outlines]
            else:
                record.annotated = False
            records.append(record)
        if any(record.split is None for record in records):
            for record in records:
                record.split = None
        classes = [name for name in colors.values() if name != "background"]
        values: dict[Any, Any] | None = dict(colors) or None
        ignored = VOID if masks and not colors else None
        return LayoutContent(
            records, classes or sorted(set(names)), values, ignored, "image", counted
        )


def _voc_files(tree: FolderTree) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return images, masks and XML files by their stems."""

    def within(folder: str, files: Sequence[str]) -> dict[str, str]:
        """Return those of some files that lie in a folder."""
        return {stem(file): file for file in files if PurePosixPath(folder_of(file)).name == folder}

    return (
        within("JPEGImages", tree.images),
        within("SegmentationClass", tree.images),
        within("Annotations", tree.with_suffix(".xml")),
    )


def _read_image_sets(tree: FolderTree) -> dict[str, str]:
    """Return the split of each name in ImageSets/Segmentation or ImageSets/Main."""
    found: dict[str, str] = {}
    for file in tree.with_suffix(".txt"):
        place = PurePosixPath(file)
        if "ImageSets" in place.parts and place.stem in ("train", "val", "test"):
            for line in tree.read_text(file).splitlines():
                if line.strip():
                    found[PurePosixPath(line.split()[0]).name] = place.stem
    return found


def _read_label_colors(tree: FolderTree) -> dict[str, str]:
    """Return the name of each color in a labelmap.txt, as CVAT writes it."""
    found = {}
    for file in tree.files:
        if PurePosixPath(file).name != "labelmap.txt":
            continue
        for number, line in enumerate(tree.read_text(file).splitlines(), start=1):
            name, _, rest = line.partition(":")
            color = rest.partition(":")[0].split(",")
            if len(color) == 3 and not line.startswith("#"):
                if not all(part.strip().isdecimal() and int(part) < 256 for part in color):
                    raise ManifestError(
                        f"{tree.path(file)}: line {number} has the color {','.join(color)[:40]};"
                        " write red, green and blue from 0 to 255"
                    )
                red, green, blue = (int(part) for part in color)
                found[f"#{red:02x}{green:02x}{blue:02x}"] = name
    return found


def _add_boxes(tree: FolderTree, file: str, record: ImageRecord) -> list[str]:
    """Add the boxes of an XML file to a record; return what was repaired."""
    voc = read_voc(tree.path(file), tree.reader.max_pixels)
    height, width = record.size = voc.size or tree.image_size(record.image)
    notes = []
    for number, (name, corners) in enumerate(voc.objects, start=1):
        where = f"{voc.path}: object {number} ('{name}')"
        rle, repairs = fill_polygons([box_polygon(*corners)], height, width, where)
        notes += repairs
        if rle is not None:
            record.outlines.append(Outline(name, where, rle, box_only=True))
    return notes
