"""COCO annotation files: a reader that checks every entry and fills polygons, and a writer.

Format: https://cocodataset.org/#format-data
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from datamodules.errors import MAX_FILE_BYTES, MAX_IMAGE_PIXELS, ContentError, ManifestError
from datamodules.formats.atomic_write import open_atomic
from datamodules.formats.file_content import read_json, shorten
from datamodules.formats.layout import (
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    Outline,
    list_files,
    split_of,
)
from datamodules.formats.outlines import (
    box_polygon,
    fill_polygons,
    is_finite_number,
    is_normalized,
    scale_polygon,
)
from datamodules.formats.predicted_image import (
    PredictedImage,
    check_prediction,
    iterate_lesions,
    lesion_box,
)
from datamodules.formats.rle import Rle, encode_rle, validate_rle
from datamodules.formats.schema import parse_by_schema

NORMALIZED_HINT = (
    "set datamodule.normalized=true if all coordinates are fractions of width and height, or"
    " correct them"
)


def read_coco(
    path: Path,
    normalized: bool = False,
    max_pixels: int = MAX_IMAGE_PIXELS,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> dict[str, Any]:
    """Read and check one annotation file.

    Ids are brought to one form, so that 1 and "1" are one image; sizes become whole numbers, and
    normalized polygons pixels.

    Args:
        path: The file.
        normalized: True if coordinates are fractions of width and height.
        max_pixels: Largest size of an image, in pixels.
        max_file_bytes: Largest file that is read, in bytes.

    Returns:
        The file's content: `images`, `annotations`, `categories` and any further sections.

    Raises:
        ManifestError: The JSON is malformed, a section is missing, ids are duplicated, an
            annotation refers to an unknown image or category, or coordinates look normalized.
    """
    content = read_json(path, max_file_bytes)
    for section in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(section), list):
            raise ManifestError(
                f"{path} has no list '{section}'; it is not a COCO annotation file, export the data"
                " set again as COCO"
            )
    for section, schema in SCHEMAS.items():
        content[section] = parse_by_schema(schema, content[section], f"{path}: '{section}'")
        _check_ids(path, section, content[section])
    _check_references(path, content)
    for image in content["images"]:
        _check_image(path, image, max_pixels)
    _to_pixels(path, content, normalized)
    return content


def _check_ids(path: Path, section: str, entries: list[dict[str, Any]]) -> None:
    twice = [id for id, count in Counter(entry["id"] for entry in entries).items() if count > 1]
    if twice:
        raise ManifestError(
            f"{path}: id {twice[0]} occurs twice in '{section}'; renumber the ids, they must be"
            f" unique"
        )


def _to_id(id: Any) -> int | str:
    """Return an id in one form; programs write one id as 1, 1.0 or "1".

    Raises:
        ValueError: It is neither a number nor a text.
    """
    if isinstance(id, bool) or not isinstance(id, int | float | str):
        raise ValueError("should be a number or a text")
    if isinstance(id, str):
        return int(id) if id.isdecimal() and len(id) <= MAX_DIGITS else id
    if not abs(id) < 10**MAX_DIGITS:  # also NaN
        raise ValueError(f"should have at most {MAX_DIGITS} digits")
    return int(id) if id == int(id) else str(id)


MAX_DIGITS = 30  # of an id; some programs number by random 64 bits
Id = Annotated[Any, BeforeValidator(_to_id)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
KEEP = ConfigDict(extra="allow")


@with_config(KEEP)
class CocoImage(TypedDict):
    """An entry of `images`; further keys are kept."""

    id: Id
    file_name: Name
    height: Any
    width: Any


@with_config(KEEP)
class CocoAnnotation(TypedDict):
    """An entry of `annotations`; further keys are kept."""

    id: Id
    image_id: Id
    category_id: Id
    segmentation: NotRequired[list[Any] | dict[str, Any] | Literal[""] | None]
    bbox: NotRequired[list[Any] | None]


@with_config(KEEP)
class CocoCategory(TypedDict):
    """An entry of `categories`; further keys are kept."""

    id: Id
    name: Name


SCHEMAS: dict[str, TypeAdapter[Any]] = {
    "images": TypeAdapter(list[CocoImage]),
    "annotations": TypeAdapter(list[CocoAnnotation]),
    "categories": TypeAdapter(list[CocoCategory]),
}


def _check_references(path: Path, content: dict[str, Any]) -> None:
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in images:
            raise ManifestError(
                f"{path}: annotation {annotation['id']} names image {annotation['image_id']},"
                " which is not listed; remove it"
            )
        if annotation["category_id"] not in categories:
            raise ManifestError(
                f"{path}: annotation {annotation['id']} has the unknown category"
                f" {annotation['category_id']}; add it to 'categories'"
            )


def _check_image(path: Path, image: dict[str, Any], max_pixels: int) -> None:
    name = image["file_name"]
    for side in ("height", "width"):
        value: Any = image.get(side)
        if not is_finite_number(value) or value != int(value) or value < 1:
            raise ManifestError(
                f"{path}: image '{name}' has no usable {side} ({shorten(repr(value), 40)}); export"
                " the data set again"
            )
        image[side] = int(value)
    if image["height"] * image["width"] > max_pixels:
        size = f"{image['height']} x {image['width']}"
        raise ManifestError(
            f"{path}: image '{name}' has the size {size}, above the limit of {max_pixels:,}"
            f" pixels; correct it, or set datamodule.max_pixels={image['height'] * image['width']}"
        )


def _to_pixels(path: Path, content: dict[str, Any], normalized: bool) -> None:
    """Scale normalized polygons; refuse them if the user did not say that they are normalized."""
    images = {image["id"]: image for image in content["images"]}
    suspicious = []
    for annotation in content["annotations"]:
        polygons = annotation.get("segmentation")
        if not isinstance(polygons, list):
            continue
        image = images[annotation["image_id"]]
        size = image["height"], image["width"]
        parts = [part for part in polygons if isinstance(part, list) and part]
        if normalized:
            where = f"{path}: annotation {annotation['id']}"
            annotation["segmentation"] = [scale_polygon(part, *size, where) for part in parts]
        elif parts and all(is_normalized(part, *size) for part in parts):
            suspicious.append(annotation["id"])
    if suspicious:
        raise ContentError(
            f"{path}: the coordinates of {len(suspicious)} of {len(content['annotations'])}"
            f" annotations (ids {list_files(map(str, suspicious))}) look normalized, they are all"
            f" from 0 to 1; {NORMALIZED_HINT}"
        )


def find_images(path: Path, content: dict[str, Any], tree: FolderTree) -> None:
    """Replace each `file_name` by the path, relative to the tree, of the image that it names.

    Raises:
        ManifestError: There is no such image below the tree, or several.
    """
    base = path.parent.relative_to(tree.root).as_posix()
    for image in content["images"]:
        name = image["file_name"]
        found = tree.locate(name, "" if base == "." else base, tree.is_image)
        leaves = PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
        outside = found and not tree.path(found).resolve().is_relative_to(tree.root.resolve())
        if outside or (found is None and leaves):
            raise ManifestError(
                f"{path}: file_name '{name}' leaves the folder of the annotation file; correct the"
                " name, because only files below that folder are read"
            )
        if found is None:
            raise ManifestError(
                f"{path.parent / name} does not exist, and {path.name} names it; restore the file,"
                " or take it out of the annotations"
            )
        image["file_name"] = found


def segmentation_rle(
    annotation: dict[str, Any], image: dict[str, Any], path: Path
) -> tuple[Rle | None, list[str]]:
    """Return one annotation's mask as compressed RLE, None if it covers nothing, and its repairs.

    The RLE has the image's own size. The box is used if the segmentation is empty; callers that do
    not want this check `is_box_only` first.

    Args:
        annotation: An entry of `annotations`.
        image: Its entry of `images`.
        path: The annotation file, for the error message.

    Raises:
        ManifestError: As `fill_polygons`; or `validate_rle` does not accept an RLE.
    """
    height, width = image["height"], image["width"]
    where = f"{path}: annotation {annotation['id']} of '{image['file_name']}'"
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return _check_coco_rle(segmentation, height, width, where), []
    if segmentation and not isinstance(segmentation, list):
        kind = type(segmentation).__name__
        raise ManifestError(
            f"{where} has a segmentation of type {kind}, and not a list of polygons or an RLE;"
            " export the data set again"
        )
    polygons = [part for part in segmentation or () if part != []]
    return fill_polygons(polygons or [box_to_polygon(annotation, where)], height, width, where)


def is_box_only(annotation: dict[str, Any]) -> bool:
    """Return True if an annotation has no outline; `[[]]` is none."""
    segmentation = annotation.get("segmentation")
    return not segmentation or (
        isinstance(segmentation, list) and all(part == [] for part in segmentation)
    )


def box_to_polygon(annotation: dict[str, Any], where: str) -> list[float]:
    """Return the bounding box `[x, y, width, height]` as a polygon."""
    box = annotation.get("bbox") or []
    if len(box) != 4 or not all(map(is_finite_number, box)) or box[2] <= 0 or box[3] <= 0:
        raise ManifestError(f"{where} has neither an outline nor a usable bbox; remove it")
    x, y, w, h = box
    return box_polygon(x, y, x + w, y + h)


def _check_coco_rle(segmentation: dict[str, Any], height: int, width: int, where: str) -> Rle:
    try:
        return validate_rle(segmentation, height, width)
    except ValueError as error:
        raise ContentError(
            f"{where} has an RLE that cannot be used: {error}; export the annotation again, or"
            " remove it"
        ) from error


class CocoLayout(Layout):
    """COCO JSON: Roboflow, CVAT, Label Studio and pycocotools write it in different folders."""

    name = "coco"
    task = "masks"
    looks_for = (
        "a COCO JSON with images, annotations and categories (_annotations.coco.json,"
        " instances_*.json, result.json)"
    )

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize JSON files with the three sections of COCO."""
        files = tree.json_files("coco")
        return f"{list_files(files)}" if files else None

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read all annotation files; the split is that of the file's name or folder."""
        files = tree.json_files("coco")
        records, counted = [], []
        seen: dict[str, str] = {}
        used: Counter[str] = Counter()
        names: list[str] = []
        for file in files:
            reader = tree.reader
            content = read_coco(
                tree.path(file), options.normalized, reader.max_pixels, reader.max_file_bytes
            )
            find_images(tree.path(file), content, tree)
            names += [str(category.get("name")) for category in content["categories"]]
            for record, notes in _records(tree, file, content, options):
                if record.image in seen:
                    raise ManifestError(
                        f"{tree.root}: {seen[record.image]} and {file} both list {record.image};"
                        " keep one of the files"
                    )
                seen[record.image] = file
                used.update(outline.name for outline in record.outlines)
                records.append(record)
                counted += [(note, record.image) for note in notes]
        for name in dict.fromkeys(names):
            if not used[name]:
                counted.append(("category without annotations: ignored", name))
        counted += [
            ("image that no annotation file lists: left out", image)
            for image in tree.images
            if image not in seen
        ]
        return LayoutContent(
            records, [name for name in dict.fromkeys(names) if used[name]], counted=counted
        )


def _records(
    tree: FolderTree, file: str, content: dict[str, Any], options: LayoutOptions
) -> list[tuple[ImageRecord, list[str]]]:
    """Return one record per listed image, and what was repaired in it."""
    category = {entry["id"]: str(entry.get("name")) for entry in content["categories"]}
    annotations: dict[int | str, list[dict[str, Any]]] = {
        image["id"]: [] for image in content["images"]
    }
    for annotation in content["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    split = split_of(file) or _split_of_name(file)
    made = []
    for image in content["images"]:
        record = ImageRecord(
            image["file_name"],
            split or split_of(image["file_name"]),
            original_name(image["file_name"]),
            size=(image["height"], image["width"]),
            annotated=bool(annotations[image["id"]]),
        )
        notes = []
        for annotation in annotations[image["id"]]:
            rle, repairs = segmentation_rle(annotation, image, tree.path(file))
            notes += repairs
            if rle is not None:
                where = f"{tree.path(file)}: annotation {annotation['id']} of '{record.image}'"
                name = category[annotation["category_id"]]
                record.outlines.append(Outline(name, where, rle, is_box_only(annotation)))
        made.append((record, notes))
    return made


def original_name(file_name: str) -> str | None:
    """Return the name of the original image, such as `y289_jpg` for `y289_jpg.rf.003b28.jpg`.

    Roboflow gives each copy of an image its own hash after `.rf.`; other names give None.
    """
    original, mark, _ = PurePosixPath(file_name).name.partition(".rf.")
    return original if mark else None


def _split_of_name(file: str) -> str | None:
    """Return the split in the name of a file such as `instances_val2017.json`."""
    return split_of(f"{PurePosixPath(file).stem}/x")


def write_coco(path: Path, images: Iterable[PredictedImage], classes: Sequence[str]) -> Path:
    """Write predicted masks as a COCO file, one annotation per lesion, as compressed RLE.

    Annotations are written as the images come; only names and sizes of the images are kept.

    Args:
        path: JSON file to write.
        images: Predictions; an image without a lesion has no annotation.
        classes: Names of the classes, whose ids are 1, 2, ...

    Returns:
        `path`.

    Raises:
        UserError: See `check_prediction`.
    """
    categories = [{"id": n, "name": name} for n, name in enumerate(classes, start=1)]
    listed: list[dict[str, Any]] = []
    count = 0
    with open_atomic(path) as file:
        file.write(b'{"annotations": [')
        for image in images:
            check_prediction(image, classes)
            listed.append(_coco_image(image, len(listed) + 1))
            for annotation in _coco_annotations(image, len(listed), classes):
                count += 1
                text = json.dumps({"id": count} | annotation)
                file.write((",\n" if count > 1 else "\n").encode() + text.encode())
        sections = json.dumps({"images": listed, "categories": categories}, ensure_ascii=False)
        file.write(b"\n], " + sections[1:].encode() + b"\n")
    return path


def _coco_image(image: PredictedImage, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": image.file,
        "height": image.height,
        "width": image.width,
    }


def _coco_annotations(
    image: PredictedImage, number: int, classes: Sequence[str]
) -> Iterable[dict[str, Any]]:
    """Yield the annotations of one image, without their ids."""
    for name, mask in iterate_lesions(image, classes):
        annotation: dict[str, Any] = {
            "image_id": number,
            "category_id": 1 + classes.index(name),
            "segmentation": encode_rle(mask[..., None])[0],
            "area": int(mask.sum()),
            "bbox": lesion_box(mask),
            "iscrowd": 0,
        }
        if name in image.probabilities:
            annotation["score"] = round(float(image.probabilities[name]), 6)
        yield annotation
