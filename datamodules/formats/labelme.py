"""Layout of LabelMe: one JSON beside each image.

Format: https://github.com/wkentaro/labelme
"""

import base64
import io
import math
from typing import Annotated, Any, NotRequired

import numpy as np
from PIL import Image
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from datamodules.errors import ManifestError
from datamodules.formats.file_content import shorten
from datamodules.formats.layout import (
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    Outline,
    folder_of,
    split_of,
    stem,
)
from datamodules.formats.outlines import (
    box_polygon,
    check_finite_numbers,
    ellipse_polygon,
    fill_polygons,
    image_side,
)
from datamodules.formats.rle import Rle, encode_rle
from datamodules.formats.schema import parse_by_schema


class Shape(TypedDict):
    """A shape of a file; further keys are not read."""

    label: Annotated[str, Field(strict=True, min_length=1)]
    shape_type: NotRequired[Annotated[str, Field(strict=True)] | None]
    points: NotRequired[Any]
    mask: NotRequired[Annotated[str, Field(strict=True)] | None]


class LabelMeContent(TypedDict):
    """Content of a file; further keys are not read."""

    shapes: list[Shape]
    imagePath: NotRequired[Annotated[str, Field(strict=True)] | None]
    imageHeight: NotRequired[Any]
    imageWidth: NotRequired[Any]


CONTENT = TypeAdapter(LabelMeContent)
NO_AREA = ("point", "points", "line", "linestrip")


class LabelMeLayout(Layout):
    """LabelMe: `a.jpg` with `a.json` that holds its shapes."""

    name = "labelme"
    task = "masks"
    looks_for = "a JSON with 'shapes' and 'imagePath' beside each image (LabelMe)"

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize JSON files with shapes and an image's name."""
        files = tree.json_files("labelme")
        return f"{len(files)} JSON files with shapes, such as {files[0]}" if files else None

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read the shapes of each file."""
        records, counted, names = [], [], []
        seen: dict[str, str] = {}
        for file in tree.json_files("labelme"):
            where = str(tree.path(file))
            content = parse_by_schema(CONTENT, tree.read_json(file), where)
            image = _find_image(tree, file, content)
            if image in seen:
                raise ManifestError(
                    f"{tree.root}: {seen[image]} and {file} both annotate {image}; keep one"
                )
            seen[image] = file
            record = ImageRecord(image, split_of(image))
            height, width = content.get("imageHeight"), content.get("imageWidth")
            if height is not None and width is not None:
                limit = tree.reader.max_pixels
                record.size = (
                    image_side(height, "imageHeight", where, limit),
                    image_side(width, "imageWidth", where, limit),
                )
            size = record.size or tree.image_size(image)
            for number, shape in enumerate(content["shapes"], start=1):
                where = f"{tree.path(file)}: shape {number}"
                outline, notes = _read_shape(shape, size, where)
                counted += [(note, image) for note in notes]
                if outline is not None:
                    record.outlines.append(outline)
                    names.append(outline.name)
            records.append(record)
        records += [
            ImageRecord(image, split_of(image), annotated=False)
            for image in tree.images
            if image not in seen
        ]
        return LayoutContent(records, sorted(set(names)), counted=counted)


def _find_image(tree: FolderTree, file: str, content: LabelMeContent) -> str:
    """Return the image of an annotation: the one it names, or the one of its own name."""
    base = folder_of(file)
    image = tree.locate(content.get("imagePath") or "", base, tree.is_image)
    if image is None:
        beside = [f for f in tree.images if folder_of(f) == base and stem(f) == stem(file)]
        image = beside[0] if len(beside) == 1 else None
    if image is None:
        raise ManifestError(
            f"{tree.path(file)} names the image '{content.get('imagePath')}', which does not exist"
            f" below {tree.root}; restore it, or remove the annotation"
        )
    return image


def _read_shape(
    shape: Shape, size: tuple[int, int], where: str
) -> tuple[Outline | None, list[str]]:
    """Return one shape as an outline, None if it has no area, and what was repaired."""
    height, width = size
    name = shape["label"]
    kind = shape.get("shape_type") or "polygon"
    if kind in NO_AREA:
        return None, [f"{kind} without an area: left out"]
    points = _points(shape.get("points"), where)
    if kind == "mask":
        mask = _decode_mask(shape, points, size, where)
        return (None if mask is None else Outline(name, where, mask)), []
    if kind == "rectangle":
        (x1, y1), (x2, y2) = _two(points, where)
        polygon = box_polygon(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    elif kind == "circle":
        (x, y), edge = _two(points, where)
        radius = math.dist((x, y), edge)
        polygon = ellipse_polygon(x, y, radius, radius)
    elif kind == "polygon":
        polygon = [value for point in points for value in point]
    else:
        raise ManifestError(f"{where} has the unknown type {kind}; draw it as a polygon")
    rle, notes = fill_polygons([polygon], height, width, where)
    return (None if rle is None else Outline(name, where, rle, kind == "rectangle")), notes


def _points(points: Any, where: str) -> list[list[float]]:
    if not isinstance(points, list):
        raise ManifestError(f"{where} has no list of points [x, y]; draw it again")
    return [check_finite_numbers(point, 2, where) for point in points]


def _two(points: list[list[float]], where: str) -> list[list[float]]:
    if len(points) != 2:
        raise ManifestError(f"{where} has {len(points)} points, and needs two; draw it again")
    return points


def _decode_mask(
    shape: Shape, points: list[list[float]], size: tuple[int, int], where: str
) -> Rle | None:
    """Return a mask that LabelMe stores as a PNG within its bounding box."""
    try:
        data = base64.b64decode(shape.get("mask") or "", validate=True)
        picture = Image.open(io.BytesIO(data), formats=("PNG",))
        if picture.width > size[1] or picture.height > size[0]:
            raise ManifestError(
                f"{where} has a mask of {picture.height} x {picture.width} pixels, which extends"
                f" beyond its image of {size[0]} x {size[1]}; draw it again"
            )
        part = np.asarray(picture.convert("L")) > 0
    except (ValueError, OSError, SyntaxError) as error:
        raise ManifestError(
            f"{where} has a mask that cannot be decoded ({shorten(str(error))}); draw it again"
        ) from error
    left, top = (round(value) for value in _two(points, where)[0])
    mask = np.zeros((*size, 1), np.uint8)
    place = mask[max(0, top) : top + part.shape[0], max(0, left) : left + part.shape[1], 0]
    if place.shape != part.shape:
        raise ManifestError(f"{where} has a mask that extends beyond its image; draw it again")
    place[:] = part
    return encode_rle(mask)[0]
