"""CVAT for images: a layout of annotations.xml beside the images, and a writer.

Format: https://docs.cvat.ai/docs/manual/advanced/xml_format/
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from datamodules.errors import ManifestError
from datamodules.formats.atomic_write import open_atomic
from datamodules.formats.file_content import shorten
from datamodules.formats.layout import (
    SPLIT_WORDS,
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    Outline,
    folder_of,
    list_files,
    split_of,
)
from datamodules.formats.outlines import (
    box_polygon,
    ellipse_polygon,
    fill_polygons,
    image_side,
    parse_finite,
)
from datamodules.formats.predicted_image import (
    PredictedImage,
    check_prediction,
    iterate_lesions,
    lesion_box,
)
from datamodules.formats.rle import Rle, encode_rle

NO_AREA = ("polyline", "points", "cuboid", "skeleton", "tag")


class CvatLayout(Layout):
    """CVAT for images 1.1: `annotations.xml` with polygons, masks, ellipses and boxes."""

    name = "cvat"
    task = "masks"
    looks_for = "annotations.xml with <annotations> and <image> (CVAT for images)"

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize XML files whose root is <annotations>."""
        files = _cvat_files(tree)
        return list_files(files) if files else None

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read all images of all files."""
        records, counted, order, used = [], [], [], set()
        seen: dict[str, str] = {}
        for file in _cvat_files(tree):
            root = tree.read_xml(file)
            if root is None:
                continue
            order += [label.text or "" for label in root.iterfind("meta//labels/label/name")]
            for entry in root.iterfind("image"):
                record, notes = _read_image(tree, file, entry)
                if record.image in seen:
                    raise ManifestError(
                        f"{tree.root}: {seen[record.image]} and {file} both list {record.image};"
                        " keep one of the files"
                    )
                seen[record.image] = file
                counted += [(note, record.image) for note in notes]
                used |= {outline.name for outline in record.outlines}
                records.append(record)
        counted += [
            ("image that no annotation file lists: left out", image)
            for image in tree.images
            if image not in seen
        ]
        classes = [name for name in dict.fromkeys([*order, *sorted(used)]) if name in used]
        return LayoutContent(records, classes, counted=counted)


def _cvat_files(tree: FolderTree) -> list[str]:
    found = []
    for file in tree.with_suffix(".xml"):
        with tree.path(file).open("rb") as content:
            if b"<annotations>" in content.read(400):
                found.append(file)
    return found


def _read_image(tree: FolderTree, file: str, entry: Element) -> tuple[ImageRecord, list[str]]:
    name = entry.get("name", "")
    image = tree.locate(name, folder_of(file), tree.is_image)
    if image is None:
        raise ManifestError(
            f"{tree.path(file)} names the image '{name}', which does not exist below {tree.root};"
            " restore it, or remove it from the file"
        )
    where = f"{tree.path(file)}: image '{name}'"
    height, width = (
        image_side(_number(entry.get(side), side, where), side, where, tree.reader.max_pixels)
        for side in ("height", "width")
    )
    subset = (entry.get("subset") or "").lower()
    split = next((split for split, names in SPLIT_WORDS.items() if subset in names), None)
    record = ImageRecord(image, split or split_of(image), size=(height, width))
    notes = []
    for number, shape in enumerate(entry, start=1):
        if shape.tag in NO_AREA:
            notes.append(f"{shape.tag} without an area: left out")
            continue
        place = f"{where}, shape {number}"
        rle, repairs = _read_shape(shape, height, width, place)
        notes += repairs
        if rle is not None:
            record.outlines.append(Outline(_label(shape, place), place, rle, shape.tag == "box"))
    record.annotated = bool(len(entry))
    return record, notes


def _label(shape: Element, where: str) -> str:
    """Return the name of a shape's class.

    Raises:
        ManifestError: It has none.
    """
    label = (shape.get("label") or "").strip()
    if not label:
        raise ManifestError(f"{where} has no label; name it, or remove it")
    return label


def _read_shape(
    shape: Element, height: int, width: int, where: str
) -> tuple[Rle | None, list[str]]:
    """Return one shape as a mask, None if it has no area, and what was repaired."""
    if shape.tag == "mask":
        return _decode_mask(shape, height, width, where), []
    if shape.tag == "polygon":
        points = [
            _number(value, "points", where)
            for point in shape.get("points", "").split(";")
            for value in point.split(",")
        ]
    elif shape.tag == "box":
        corners = [_number(shape.get(k), k, where) for k in ("xtl", "ytl", "xbr", "ybr")]
        points = box_polygon(*corners)
    elif shape.tag == "ellipse":
        x, y, rx, ry = (_number(shape.get(k), k, where) for k in ("cx", "cy", "rx", "ry"))
        points = ellipse_polygon(x, y, rx, ry, _number(shape.get("rotation", "0"), "turn", where))
    else:
        raise ManifestError(f"{where} is a <{shape.tag}>, which is unknown; draw it as a polygon")
    if shape.tag == "box" and _number(shape.get("rotation", "0"), "rotation", where):
        raise ManifestError(f"{where} is a turned box; draw it as a polygon")
    return fill_polygons([points], height, width, where)


def _decode_mask(shape: Element, height: int, width: int, where: str) -> Rle | None:
    """Return a mask of run lengths by rows within its box, the first run outside."""
    left, top, w, h = (
        int(_number(shape.get(k), k, where)) for k in ("left", "top", "width", "height")
    )
    try:
        runs = [int(run) for run in shape.get("rle", "").split(",")]
    except ValueError as error:
        raise ManifestError(f"{where} has run lengths that are no numbers ({error})") from error
    if min(runs) < 0 or sum(runs) != w * h or min(left, top) < 0:
        raise ManifestError(
            f"{where} has runs that add up to {sum(runs)} pixels, and its box {w} x {h} has"
            f" {w * h}; export it again"
        )
    if min(w, h) < 1 or left + w > width or top + h > height:
        raise ManifestError(f"{where} has a mask that extends beyond its image; export it again")
    values = np.repeat(np.arange(len(runs), dtype=np.uint8) & 1, runs).reshape(h, w)
    mask = np.zeros((height, width, 1), np.uint8)
    mask[top : top + h, left : left + w, 0] = values
    return encode_rle(mask)[0]


def _number(text: str | None, what: str, where: str) -> float:
    number = parse_finite(text)
    if number is None:
        raise ManifestError(
            f"{where} has {what}={shorten(str(text), 40)}; write a finite number there"
        )
    return number


def write_cvat(path: Path, images: Iterable[PredictedImage], classes: Sequence[str]) -> Path:
    """Write predictions as CVAT for images 1.1: one `<mask>` per lesion.

    Positive classes of an image become tags. Images are written as they come; none is kept.

    Args:
        path: XML file to write.
        images: Predictions.
        classes: Names of the classes, which are the labels of the task in CVAT.

    Returns:
        `path`.

    Raises:
        UserError: See `check_prediction`.
    """
    labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in classes)
    with open_atomic(path) as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        head = f"<version>1.1</version>\n<meta><task><labels>{labels}</labels></task></meta>\n"
        file.write(head.encode())
        for number, image in enumerate(images):
            check_prediction(image, classes)
            lines = [*_image_lines(image, number, classes), ""]
            file.write("\n".join(lines).encode())
        file.write(b"</annotations>\n")
    return path


def _image_lines(image: PredictedImage, number: int, classes: Sequence[str]) -> Iterator[str]:
    yield (
        f'<image id="{number}" name={quoteattr(image.file)} width="{image.width}"'
        f' height="{image.height}">'
    )
    for name in image.positive:
        yield f'<tag label={quoteattr(name)} source="auto"></tag>'
    for name, mask in iterate_lesions(image, classes):
        left, top, width, height = lesion_box(mask)
        runs = _encode_runs(mask[top : top + height, left : left + width])
        yield (
            f'<mask label={quoteattr(name)} source="auto" occluded="0" rle="{runs}" left="{left}"'
            f' top="{top}" width="{width}" height="{height}" z_order="0"></mask>'
        )
    yield "</image>"


def _encode_runs(mask: np.ndarray) -> str:
    """Return the run lengths of 0/1 `H x W` by rows, the first one outside the mask."""
    values = np.concatenate([[0], mask.ravel()])  # so that the first run is outside
    edges = np.flatnonzero(np.diff(values))
    return ", ".join(map(str, np.diff(edges, prepend=0, append=mask.size).tolist()))
