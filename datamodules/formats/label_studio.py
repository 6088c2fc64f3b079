"""Label Studio: a layout of a JSON export of tasks beside the images, and a writer of predictions.

Formats: https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks and
https://labelstud.io/guide/predictions
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired
from urllib.parse import parse_qs, quote, unquote, urlparse
from xml.sax.saxutils import quoteattr

import numpy as np
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from datamodules.errors import ManifestError
from datamodules.formats.atomic_write import open_atomic
from datamodules.formats.file_content import shorten
from datamodules.formats.layout import (
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    Outline,
    first_repeated,
    folder_of,
    list_files,
    split_of,
)
from datamodules.formats.outlines import (
    box_polygon,
    check_finite_numbers,
    ellipse_polygon,
    fill_polygons,
    image_side,
)
from datamodules.formats.predicted_image import (
    MODEL,
    PredictedImage,
    check_prediction,
    iterate_lesions,
)
from datamodules.formats.rle import Rle, encode_rle
from datamodules.formats.schema import parse_by_schema


class Result(TypedDict):
    """An outline or another answer of an annotation; further keys are not read."""

    type: Annotated[str, Field(strict=True)]
    id: NotRequired[Any]
    value: NotRequired[dict[str, Any] | None]
    original_height: NotRequired[Any]
    original_width: NotRequired[Any]
    image_rotation: NotRequired[float | None]


class LabelStudioAnnotation(TypedDict):
    """All answers of one person about an image."""

    result: NotRequired[list[Result] | None]
    was_cancelled: NotRequired[bool | None]


class LabelingTask(TypedDict):
    """One image with its annotations."""

    data: dict[str, Any]
    id: NotRequired[Any]
    annotations: NotRequired[list[LabelStudioAnnotation] | None]


TASKS = TypeAdapter(list[LabelingTask])
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # Label Studio's own prefix of uploaded files
LABEL_KEYS = {
    "polygonlabels": "polygonlabels",
    "brushlabels": "brushlabels",
    "rectanglelabels": "rectanglelabels",
    "ellipselabels": "ellipselabels",
}
LOCAL_FILES = "/data/local-files/?d="  # URL of files that Label Studio serves from its own disk
LENGTH_BITS = (3, 4, 8, 16)  # of a run of the brush format; the shortest that holds it is taken
WORD_BITS, COUNT_BITS = 8, 32  # of a value, and of the number of all values
CHANNELS = 4  # RGBA


class LabelStudioLayout(Layout):
    """Label Studio JSON with polygons, brush strokes, ellipses and boxes, in percent."""

    name = "label_studio"
    task = "masks"
    looks_for = "a JSON list of tasks with data and annotations (Label Studio)"

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize JSON files with a list of tasks."""
        files = [file for file in tree.json_files("label_studio") if _has_outlines(tree, file)]
        return list_files(files) if files else None

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read the tasks; an image needs exactly one annotation that was not cancelled."""
        records, counted, names = [], [], []
        for file in tree.json_files("label_studio"):
            where = str(tree.path(file))
            for task in parse_by_schema(TASKS, tree.read_json(file), where):
                record, notes = _read_task(tree, file, task)
                counted += [(note, record.image) for note in notes]
                names += [outline.name for outline in record.outlines]
                records.append(record)
        _check_once(tree, records)
        return LayoutContent(records, sorted(set(names)), counted=counted)


def _has_outlines(tree: FolderTree, file: str) -> bool:
    """Return True if some task is annotated with outlines, and not with choices alone."""
    text = tree.read_text(file)
    return any(f'"{kind}"' in text for kind in LABEL_KEYS)


def _check_once(tree: FolderTree, records: Sequence[ImageRecord]) -> None:
    twice = first_repeated(records)
    if twice is not None:
        raise ManifestError(
            f"{tree.root}: {twice} occurs in several tasks of the export; export each image once"
        )


def _read_task(tree: FolderTree, file: str, task: LabelingTask) -> tuple[ImageRecord, list[str]]:
    where = f"{tree.path(file)}: task {task.get('id')}"
    image = _find_image(tree, file, task, where)
    done = [each for each in task.get("annotations") or [] if not each.get("was_cancelled")]
    if len(done) > 1:
        raise ManifestError(
            f"{where} has {len(done)} annotations of '{image}'; export one of each image (the"
            " ground truth, or the last one)"
        )
    record = ImageRecord(image, split_of(image), annotated=bool(done))
    notes = []
    for result in done[0].get("result") or [] if done else ():
        kind = result.get("type")
        if kind not in LABEL_KEYS:
            notes.append(f"{kind} without an outline: left out")
            continue
        place = f"{where}, result {result.get('id')}"
        size = _size(result, place, tree.reader.max_pixels)
        if record.size not in (None, size):
            raise ManifestError(f"{place} states another size than the results before it")
        record.size = size
        rle, repairs = _read_result(result, kind, size, place)
        notes += repairs
        labels = (result.get("value") or {}).get(LABEL_KEYS[kind]) or []
        if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
            raise ManifestError(f"{place} has labels that are no list of names; export it again")
        if len(labels) != 1:
            raise ManifestError(f"{place} has {len(labels)} labels; give each outline one")
        if rle is not None:
            box_only = kind == "rectanglelabels"
            record.outlines.append(Outline(str(labels[0]), place, rle, box_only))
    return record, notes


def _find_image(tree: FolderTree, file: str, task: LabelingTask, where: str) -> str:
    """Return the image that a task's URL or path names."""
    written = [str(value) for value in task["data"].values() if isinstance(value, str)]
    for text in written:
        query = parse_qs(urlparse(text).query).get("d")
        # a query is decoded already, and some programs quote the path in it twice
        names = [query[0], unquote(query[0])] if query else [unquote(urlparse(text).path or text)]
        for name in dict.fromkeys(names):
            bare = name.rpartition("/")[2]
            for candidate in (name, bare, UPLOAD_PREFIX.sub("", bare)):
                found = tree.locate(candidate, folder_of(file), tree.is_image)
                if found is not None:
                    return found
    raise ManifestError(
        f"{where} names the image {list_files(written)}, which does not exist below {tree.root};"
        " put the images there under their names"
    )


def _size(result: Result, where: str, max_pixels: int) -> tuple[int, int]:
    height, width = (
        image_side(result.get(side), side, where, max_pixels)
        for side in ("original_height", "original_width")
    )
    if result.get("image_rotation"):
        raise ManifestError(
            f"{where} was drawn on an image turned by {result['image_rotation']} degrees; turn the"
            " image itself and annotate it again"
        )
    return height, width


def _read_result(
    result: Result, kind: str, size: tuple[int, int], where: str
) -> tuple[Rle | None, list[str]]:
    """Return one result as a mask, None if it has no area, and what was repaired."""
    value: Any = result.get("value")
    height, width = size
    try:
        if kind == "brushlabels":
            mask = decode_brush(value["rle"], height, width)
            return encode_rle(mask[..., None])[0], []
        if kind == "polygonlabels":
            points = value["points"]
            if not isinstance(points, list):
                raise TypeError("points is no list")
            percent = [x for point in points for x in check_finite_numbers(point, 2, where)]
        elif kind == "rectanglelabels":
            sides = [value[key] for key in ("x", "y", "width", "height")]
            x, y, w, h = check_finite_numbers(sides, 4, where)
            percent = box_polygon(x, y, x + w, y + h)
        else:
            sides = [value[key] for key in ("x", "y", "radiusX", "radiusY")]
            x, y, w, h = check_finite_numbers(sides, 4, where)
            (turn,) = check_finite_numbers([value.get("rotation") or 0], 1, where)
            polygon = ellipse_polygon(
                x * width / 100,
                y * height / 100,
                w * width / 100,
                h * height / 100,
                turn,
            )
            return fill_polygons([polygon], height, width, where)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ManifestError(
            f"{where} cannot be read ({shorten(str(error))}); export it again"
        ) from error
    if kind == "rectanglelabels" and value.get("rotation"):
        raise ManifestError(f"{where} is a turned box; draw it as a polygon")
    pixels = np.asarray(percent, np.float64).reshape(-1, 2) * [width / 100, height / 100]
    return fill_polygons([pixels.ravel().tolist()], height, width, where)


def decode_brush(rle: Sequence[int], height: int, width: int) -> np.ndarray:
    """Decode Label Studio's brush format: packed run lengths of RGBA bytes, alpha is the mask.

    The format is that of https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack, as
    label-studio-converter reads it.

    Args:
        rle: Bytes of the packed data.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        uint8 0/1 `height x width`.

    Raises:
        ValueError: The data does not fill the image.
    """
    if not isinstance(rle, list) or not all(type(b) is int and 0 <= b < 256 for b in rle):
        raise ValueError("the brush data is no list of bytes")
    bits = np.unpackbits(np.asarray(rle, np.uint8))
    position = 0

    def take(count: int) -> int:
        """Return the number in the next bits."""
        nonlocal position
        if position + count > len(bits):
            raise ValueError("the brush data is cut off")
        value = int("".join(map(str, bits[position : position + count])), 2)
        position += count
        return value

    values, word_size = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    if values != 4 * height * width:
        raise ValueError(
            f"the brush data has {values} values, and an image of {height} x {width} pixels has"
            f" {4 * height * width}"
        )
    out = np.zeros(values, np.int64)
    filled = 0
    while filled < values:
        repeats = take(1)
        run = take(sizes[take(2)]) + 1
        run = min(run, values - filled)
        if repeats:
            out[filled : filled + run] = take(word_size)
        else:
            out[filled : filled + run] = [take(word_size) for _ in range(run)]
        filled += run
    return (out.reshape(height, width, 4)[..., 3] > 0).astype(np.uint8)


def write_label_studio(
    path: Path,
    images: Iterable[PredictedImage],
    classes: Sequence[str],
    *,
    section: Literal["predictions", "annotations"] = "predictions",
    url: str = LOCAL_FILES,
    model: str = MODEL,
) -> Path:
    """Write predictions as tasks that Label Studio imports: brush strokes, one per lesion.

    Positive classes of an image become choices. `labeling_config` gives the interface of the
    project. Images are written as they come; none is kept.

    Args:
        path: JSON file to write.
        images: Predictions.
        classes: Names of the classes.
        section: `predictions` for a person to accept or correct, which the layout does not take
            for annotations; `annotations` if they need no review.
        url: Prefix of the images' paths; the default is that of Label Studio's local storage.
        model: Name of the model that Label Studio shows.

    Returns:
        `path`.

    Raises:
        UserError: See `check_prediction`.
    """
    with open_atomic(path) as file:
        for number, image in enumerate(images):
            check_prediction(image, classes)
            made: dict[str, Any] = {"result": list(_results(image, classes))}
            if section == "predictions":
                made["model_version"] = model
                if image.probabilities:
                    made["score"] = round(float(max(image.probabilities.values())), 6)
            task = {"data": {"image": url + quote(image.file)}, section: [made]}
            text = json.dumps({"id": number + 1} | task, ensure_ascii=False)
            file.write((",\n" if number else "[\n").encode() + text.encode())
        file.write(b"\n]\n" if file.tell() else b"[]\n")
    return path


def labeling_config(classes: Sequence[str]) -> str:
    """Return the labeling interface (XML) of a project that `write_label_studio` fits."""
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in classes)
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    return (
        '<View><Image name="image" value="$image" zoom="true"/>'
        f'<BrushLabels name="mask" toName="image">{labels}</BrushLabels>'
        f'<Choices name="finding" toName="image" choice="multiple">{choices}</Choices></View>'
    )


def _results(image: PredictedImage, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    shared = {
        "to_name": "image",
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
    }
    for number, (name, mask) in enumerate(iterate_lesions(image, classes)):
        value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [name]}
        own = {"id": f"lesion{number}", "type": "brushlabels", "from_name": "mask"}
        yield {**own, **shared, "value": value}
    if image.positive:
        own = {"id": "finding", "type": "choices", "from_name": "finding"}
        yield {**own, "to_name": "image", "value": {"choices": list(image.positive)}}


def encode_brush(mask: np.ndarray) -> list[int]:
    """Encode a mask in Label Studio's brush format, see `decode_brush`.

    Args:
        mask: 0/1 `height x width`.

    Returns:
        Bytes of the packed data.
    """
    values = mask.ravel() != 0
    edges = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff(edges, prepend=0, append=values.size) * CHANNELS
    bits = [f"{values.size * CHANNELS:0{COUNT_BITS}b}", f"{WORD_BITS - 1:05b}"]
    bits += [f"{size - 1:04b}" for size in LENGTH_BITS]
    word = int(values[0]) * 255
    for run in runs.tolist():
        bits += _run_bits(run, word)
        word ^= 255
    return np.packbits(np.frombuffer("".join(bits).encode(), np.uint8) & 1).tolist()


def _run_bits(length: int, word: int) -> Iterator[str]:
    """Yield the bits of equal values; a run of more than 65,536 is several."""
    while length:
        part = min(length, 2 ** LENGTH_BITS[-1])
        kind = next(n for n, bits in enumerate(LENGTH_BITS) if part <= 2**bits)
        yield f"1{kind:02b}{part - 1:0{LENGTH_BITS[kind]}b}{word:0{WORD_BITS}b}"
        length -= part
