"""Reader of COCO annotation files that checks every entry and converts polygons to masks."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from datamodules.errors import MAX_IMAGE_PIXELS, ContentError, ManifestError
from datamodules.formats.rle import Rle, validate_rle

CLIP_TOLERANCE = 2.0  # pixels by which a polygon may extend beyond its image; it is clipped


def read_coco(path: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> dict[str, Any]:
    """Read and check one annotation file.

    Args:
        path: The file.
        max_pixels: Largest size of an image, in pixels.

    Returns:
        The file's content: `images`, `annotations`, `categories` and any further sections.

    Raises:
        ManifestError: The JSON is malformed, a section is missing, ids are duplicated, an
            annotation refers to an unknown image or category, or a file name leaves the folder.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{path} is not valid JSON ({error}); export the data set again"
        ) from error
    for section in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(section), list):
            raise ManifestError(
                f"{path} has no list '{section}'; it is not a COCO annotation file, export the data"
                " set again as COCO"
            )
    for section in ("images", "annotations", "categories"):
        _check_ids(path, section, content[section])
    _check_references(path, content)
    for image in content["images"]:
        _check_image(path, image, max_pixels)
    return content


def _check_ids(path: Path, section: str, entries: list[dict[str, Any]]) -> None:
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "id" not in entry:
            raise ManifestError(
                f"{path}: entry {number} of '{section}' has no id; export the data set again"
            )
    twice = [id for id, count in Counter(entry["id"] for entry in entries).items() if count > 1]
    if twice:
        raise ManifestError(
            f"{path}: id {twice[0]} occurs twice in '{section}'; renumber the ids, they must be"
            f" unique"
        )


def _check_references(path: Path, content: dict[str, Any]) -> None:
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        if annotation.get("image_id") not in images:
            raise ManifestError(
                f"{path}: annotation {annotation['id']} names image {annotation.get('image_id')},"
                " which is not listed; remove it"
            )
        if annotation.get("category_id") not in categories:
            raise ManifestError(
                f"{path}: annotation {annotation['id']} has the unknown category"
                f" {annotation.get('category_id')}; add it to 'categories'"
            )


def _check_image(path: Path, image: dict[str, Any], max_pixels: int) -> None:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise ManifestError(
            f"{path}: image {image['id']} has no file_name; export the data set again"
        )
    folder = path.parent.resolve()
    if Path(name).is_absolute() or not (folder / name).resolve().is_relative_to(folder):
        raise ManifestError(
            f"{path}: file_name '{name}' leaves the folder of the annotation file; correct the"
            f" name,"
            " because only files below that folder are read"
        )
    for side in ("height", "width"):
        if type(image.get(side)) is not int or image[side] < 1:
            raise ManifestError(
                f"{path}: image '{name}' has no usable {side} ({image.get(side)}); export the data"
                " set again"
            )
    if image["height"] * image["width"] > max_pixels:
        size = f"{image['height']} x {image['width']}"
        raise ManifestError(
            f"{path}: image '{name}' has the size {size}, above the limit of {max_pixels:,}"
            f" pixels; correct it, or set datamodule.max_pixels={image['height'] * image['width']}"
        )


def segmentation_rle(
    annotation: dict[str, Any], image: dict[str, Any], path: Path
) -> tuple[Rle, bool]:
    """Return one annotation's mask as compressed RLE, and True if it was clipped.

    The RLE has the image's own size. The box is used if the segmentation is empty; callers that do
    not want this check `is_box_only` first.

    Args:
        annotation: An entry of `annotations`.
        image: Its entry of `images`.
        path: The annotation file, for the error message.

    Raises:
        ManifestError: A polygon has fewer than 3 points, NaN, or points more than CLIP_TOLERANCE
            pixels outside the image; or `validate_rle` does not accept an RLE.
    """
    height, width = image["height"], image["width"]
    where = f"{path}: annotation {annotation['id']} of '{image['file_name']}'"
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return _check_coco_rle(segmentation, height, width, where), False
    if segmentation and not isinstance(segmentation, list):
        kind = type(segmentation).__name__
        raise ManifestError(
            f"{where} has a segmentation of type {kind}, and not a list of polygons or an RLE;"
            " export the data set again"
        )
    polygons = segmentation or [box_to_polygon(annotation, where)]
    points = [_check_polygon(polygon, height, width, where) for polygon in polygons]
    rle = coco_mask.merge(coco_mask.frPyObjects([polygon for polygon, _ in points], height, width))
    return {"size": rle["size"], "counts": rle["counts"].decode()}, any(
        clipped for _, clipped in points
    )


def is_box_only(annotation: dict[str, Any]) -> bool:
    """Return True if an annotation has no outline."""
    return not annotation.get("segmentation")


def box_to_polygon(annotation: dict[str, Any], where: str) -> list[float]:
    """Return the bounding box `[x, y, width, height]` as a polygon."""
    box = annotation.get("bbox") or []
    if len(box) != 4 or not all(map(math.isfinite, box)) or box[2] <= 0 or box[3] <= 0:
        raise ManifestError(f"{where} has neither an outline nor a usable bbox; remove it")
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def _check_coco_rle(segmentation: dict[str, Any], height: int, width: int, where: str) -> Rle:
    try:
        return validate_rle(segmentation, height, width)
    except ValueError as error:
        raise ContentError(
            f"{where} has an RLE that cannot be used: {error}; export the annotation again, or"
            " remove it"
        ) from error


def _check_polygon(
    polygon: list[float], height: int, width: int, where: str
) -> tuple[list[float], bool]:
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise ManifestError(f"{where} has a polygon with fewer than 3 points; correct or remove it")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in polygon):
        raise ManifestError(
            f"{where} has a polygon with a coordinate that is not a finite number; correct or"
            " remove it"
        )
    limits = [width, height] * (len(polygon) // 2)
    excess = max(max(-value, value - limit) for value, limit in zip(polygon, limits, strict=True))
    if excess > CLIP_TOLERANCE:
        raise ManifestError(
            f"{where} has a polygon {excess:.1f} pixels outside the {width} x {height} image;"
            " correct or remove it"
        )
    return [
        min(max(value, 0.0), limit) for value, limit in zip(polygon, limits, strict=True)
    ], excess > 0
