"""Reader of mask images: converts the values, colors or opacity of an image to 0/1 masks.

The values of all masks of a data set are read first (`survey_masks`); `interpret_masks` then
decides once what each value is. Whatever is not certain is refused, never guessed.
"""

import hashlib
import math
import re
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from os.path import commonpath
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage

from datamodules.arguments import ANY_VALUE, parse_mask_value
from datamodules.errors import ContentError, ManifestError
from datamodules.formats.file_content import check_file, read_bytes
from datamodules.formats.file_stamp import file_stamp, value_files
from datamodules.formats.gray_levels import N_LEVELS
from datamodules.formats.image_files import is_dicom, is_volume
from datamodules.formats.image_io import (
    DEFAULT_READER,
    ImageReader,
    Size,
    bit_depth,
    check_pixels,
    decode_deep_color,
    turn_as_shown,
)
from datamodules.formats.kept_result import SUFFIX, load_result, make_folder, store_result

if TYPE_CHECKING:
    from datamodules.formats.volumes import SliceIndex

Value = int | str  # a stored number, or a color as "#rrggbb"
Coding = Literal["gray", "palette", "color", "alpha"]
# a mask with soft edges has at least this fraction of its pixels within this many gray levels (of
# 255) of black or white
SOFT_FRACTION, SOFT_WIDTH = (0.98, 32)
MAX_LISTED = 8  # values that a message lists
AUTOMATIC_NAME = re.compile(r"class_\d+")  # of a label map whose values have no names
MAX_CLASSES = 64  # largest value of a label map that is accepted without datamodule.mask_values
WHITE = frozenset({1, 255, 65535})  # numbers that all mean "lesion" in a mask of one class
BLACK = "#000000"
BACKGROUND = "background"  # the name in datamodule.mask_values of values that are no class
REDRAW_HINT = "write the mask as a gray image of 0 (background) and 255 (lesion)"
COUNTED_PIXELS = 2**22  # whose values are counted at once, so that memory stays bounded
SURVEY_VERSION = 2  # increase it when the reading of values changes
NUMPY_HEADER = Lock()  # numpy parses headers with `ast`, which CPython 3.11 cannot in two threads


class MaskImage(NamedTuple):
    """Content of one mask image.

    Attributes:
        mask: uint8 0/1, `H x W x classes`.
        soft: True if the image has gray edges, which were cut at > 127 of 255.
        ignored: Bool `H x W`, True for pixels that neither train nor score; None if there are none.
    """

    mask: np.ndarray
    soft: bool
    ignored: np.ndarray | None = None


@dataclass(frozen=True)
class MaskContent:
    """Values of one mask image.

    Attributes:
        coding: What the values are: gray values, indexes of a palette, colors, or opacity.
        values: The values, ascending, without the intermediate ones of soft edges; the first
            MAX_CLASSES + 2 of them.
        count: Number of different values.
        colors: Color of each used palette index, "#rrggbb".
        soft: True if the only values between black and white are soft edges.
        separate: True if each value but 0 is one connected area, as the numbers of objects are.
    """

    coding: Coding
    values: tuple[Value, ...]
    count: int
    colors: Mapping[int, str] = field(default_factory=dict)
    soft: bool = False
    separate: bool = False

    def as_colors(self) -> "MaskContent":
        """Return the content of a palette image by its colors in place of its indexes."""
        if self.coding != "palette":
            return self
        found = sorted({self.colors[int(value)] for value in self.values})
        if all(len({color[1:3], color[3:5], color[5:7]}) == 1 for color in found):
            levels = sorted(int(color[1:3], 16) for color in found)
            return MaskContent("gray", tuple(levels), len(levels))
        return MaskContent("color", tuple(found), len(found))


@dataclass(frozen=True)
class MaskReading:
    """Meaning of the values of a data set's mask images.

    Attributes:
        classes: Names of the classes, in channel order.
        channels: Channels of each value; none for the background.
        ignore_value: Value of pixels that neither train nor score; None if there is none.
        palette: True to read palette images by their indexes, False by their colors.
        others: Channels of every other value; None if other values are refused.
        exclusive: True if no value belongs to two classes and there are several.
    """

    classes: tuple[str, ...]
    channels: Mapping[Value, tuple[int, ...]]
    ignore_value: Value | None = None
    palette: bool = True
    others: tuple[int, ...] | None = None

    @property
    def exclusive(self) -> bool:
        """Return True if there are several classes, and no pixel can belong to two of them."""
        return len(self.classes) > 1 and all(len(of) < 2 for of in self.channels.values())

    def describe(self) -> str:
        """Return what each value is, such as `0 background, 1 liver, 255 ignored`."""
        parts = [
            f"{value} {' + '.join(self.classes[c] for c in of) or BACKGROUND}"
            for value, of in sorted(self.channels.items(), key=lambda item: _order(item[0]))
            if value != BLACK or any(isinstance(v, str) and v != BLACK for v in self.channels)
        ]
        names = [name for name in self.classes if AUTOMATIC_NAME.fullmatch(name)]
        if names:
            named = ", ".join(f"{name.removeprefix('class_')}: ..." for name in names[:4])
            parts[-1] += f" (name them with 'datamodule.mask_values={{{named}}}')"
        if self.others is not None:
            parts.append(f"any other {' + '.join(self.classes[c] for c in self.others)}")
        return ", ".join([*parts, *([f"{self.ignore_value} ignored"] * self.has_ignored)])

    @property
    def has_ignored(self) -> bool:
        """Return True if some value is ignored."""
        return self.ignore_value is not None


def read_mask(
    path: Path,
    reading: MaskReading | None = None,
    reader: ImageReader = DEFAULT_READER,
    index: "SliceIndex | None" = None,
) -> MaskImage:
    """Read one mask image in the orientation that viewers show, or one slice of a label volume.

    Args:
        path: The file; every error message names it.
        reading: Meaning of the data set's values; None decides by this file alone, for one class.
        reader: Reader of the data set's files, for its limit of pixels and its frame.
        index: Position of the slice in a volume; None for a file of one image.

    Raises:
        ContentError: The values do not identify the classes.
        ManifestError: The file is missing or cannot be decoded.
    """
    pixels, content = _load_values(path, reader, index)
    if reading is None:
        reading = interpret_masks({path: content}, classes=("lesion",))
    if content.coding == "palette" and not reading.palette:
        pixels, content = _palette_to_colors(pixels, content)
    if content.soft:
        if len(reading.classes) > 1:
            raise ContentError(
                f"{path} has soft edges, as JPEG and interpolation cause them, where labels of"
                f" {len(reading.classes)} classes are expected; write the labels without"
                " interpolation, as PNG"
            )
        lesion = np.asarray(_scale_to_8_bit(pixels)) > 127
        return MaskImage(lesion.view(np.uint8)[..., None], True)
    return _apply(path, pixels, content, reading)


def _apply(path: Path, pixels: np.ndarray, content: MaskContent, reading: MaskReading) -> MaskImage:
    masks = np.zeros((len(reading.classes), *pixels.shape), bool)
    unknown = [
        value
        for value in content.values
        if value not in reading.channels and value != reading.ignore_value
    ]
    if reading.others is not None:
        known = [_to_number(value) for value in reading.channels]
        rest = ~np.isin(pixels, known)
        if reading.ignore_value is not None:
            rest &= pixels != _to_number(reading.ignore_value)
        masks[list(reading.others)] |= rest
    elif unknown or content.count > len(content.values):
        raise ContentError(
            f"{path} holds {_list_values(list(content.values), content.count)}, and only"
            f" {reading.describe()} is known; {_values_hint(content.values)}"
        )
    for value in content.values:
        of = reading.channels.get(value, ())
        if of:
            here = pixels == _to_number(value)
            for channel in of:
                masks[channel] |= here
    ignored = None
    if reading.ignore_value in content.values:
        ignored = pixels == _to_number(reading.ignore_value)  # type: ignore[arg-type]
    planes = np.ascontiguousarray(masks.transpose(1, 2, 0)).view(np.uint8)
    return MaskImage(planes, False, ignored)


def survey_masks(
    paths: Sequence[Path], cache_dir: Path | None = None, reader: ImageReader = DEFAULT_READER
) -> dict[Path, MaskContent]:
    """Read which values each mask image holds; files that cannot be read are left out.

    Args:
        paths: Mask images.
        cache_dir: Folder in which the result is kept for the next run; None keeps nothing.
        reader: Reader of the data set's files, for its limit of pixels.
    """
    name = f"mask-values-{_stamp(paths, reader)}{SUFFIX}"
    found = None if cache_dir is None else load_result(cache_dir / name)
    if found is None:
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda path: _survey_file(path, reader), paths))
        if cache_dir is not None:
            make_folder(cache_dir)
            store_result(cache_dir / name, found)
    return {
        path: MaskContent(
            **{
                **content,
                "values": tuple(content["values"]),
                "colors": {int(index): color for index, color in content["colors"].items()},
            }
        )
        for path, content in zip(paths, found, strict=True)
        if content is not None
    }


def _survey_file(path: Path, reader: ImageReader) -> dict[str, Any] | None:
    try:
        if is_volume(path):
            return asdict(_describe_volume(path, reader))
        return asdict(_load_values(path, reader)[1])
    except ManifestError:  # reported with its name by the check that reads the file again
        return None


def _stamp(paths: Sequence[Path], reader: ImageReader) -> str:
    digest = hashlib.sha256(f"{SURVEY_VERSION} {reader.max_pixels}".encode())
    for path in paths:
        known = [file_stamp(each) for each in (path, *value_files(path))] if path.is_file() else []
        digest.update(f"{path} {known}\n".encode())
    return digest.hexdigest()[:16]


def interpret_masks(
    contents: Mapping[Path, MaskContent],
    classes: Sequence[str] = (),
    mask_values: Mapping[Any, Any] | None = None,
    ignore_value: Any = None,
) -> MaskReading:
    """Decide what each value of a data set's mask images is.

    Without `mask_values`, masks of one class hold 0 and one other value (0 and 255, 0 and 1, black
    and red, transparent and opaque), or soft edges between black and white; and label maps hold the
    numbers 0 to K of K classes.

    Args:
        contents: Content of each file, of `survey_masks`.
        classes: Names of the classes; empty if the values decide how many there are.
        mask_values: Name, or list of names, of each value or color; the background need not be
            named.
        ignore_value: Value or color of pixels that neither train nor score.

    Raises:
        ContentError: The values are not certain; the message lists them, and names the key.
    """
    ignored = None if ignore_value is None else parse_mask_value(ignore_value)
    if mask_values:
        return _named_reading(contents, classes, mask_values, ignored)
    by_index = _indexes_are_labels(contents)
    plain = {path: c if by_index else c.as_colors() for path, c in contents.items()}
    found = {
        path: [value for value in content.values if value not in (0, BLACK, ignored)]
        for path, content in plain.items()
    }
    values = sorted({value for of in found.values() for value in of}, key=_order)
    background: dict[Value, tuple[int, ...]] = {0: (), BLACK: ()}
    several = any(
        len(of) > 1 or content.count > len(content.values)
        for of, content in zip(found.values(), plain.values(), strict=True)
    )
    numbers = [value for value in values if isinstance(value, int)]
    is_label_map = numbers == values == list(range(1, len(values) + 1)) and len(values) > 1
    if (
        len(classes) > 1
        and len(numbers) == len(values)
        and set(values) <= set(range(1, len(classes) + 1))
    ):
        labels: dict[Value, tuple[int, ...]] = {c + 1: (c,) for c in range(len(classes))}
        return MaskReading(tuple(classes), background | labels, ignored, by_index)
    negative = any(number < 0 for number in numbers)  # such as -1 for unknown pixels
    if (
        len(classes) < 2
        and not several
        and not negative
        and (len(values) < 2 or set(values) <= WHITE)
    ):
        names = tuple(classes) or ("lesion",)
        lesion: dict[Value, tuple[int, ...]] = {value: (0,) for value in values or [255]}
        reading = MaskReading(names, background | lesion, ignored, by_index)
        _check_background(plain, reading)
        return reading
    if not classes and is_label_map and len(values) <= MAX_CLASSES:
        _check_objects(plain)
        _check_background(plain, None)
        made = tuple(f"class_{value}" for value in values)
        of_value: dict[Value, tuple[int, ...]] = {value: (n,) for n, value in enumerate(values)}
        return MaskReading(made, background | of_value, ignored, by_index)
    raise ContentError(_uncertain(plain, classes, ignored))


def _check_objects(contents: Mapping[Path, MaskContent]) -> None:
    """Refuse masks whose values may number the objects of an image and be no classes.

    Each mask then holds the values from 1 to the number of its objects, which differs, and each
    value is one connected area.
    """
    shown = {
        path: [value for value in content.values if value != 0]
        for path, content in contents.items()
    }
    numbered = all(of == list(range(1, len(of) + 1)) for of in shown.values())
    separate = all(contents[path].separate for path, of in shown.items() if of)
    if numbered and separate and len({len(of) for of in shown.values() if of}) > 1:
        most = max(shown, key=lambda path: len(shown[path]))
        raise ContentError(
            f"{most} holds the values 1 to {len(shown[most])}, others fewer, and each value is one"
            " connected area, so that they may number objects of one class; set"
            " 'datamodule.mask_values={any: lesion}' if they do, or name the classes with"
            " 'datamodule.mask_values={1: class_a, 2: class_b}'"
        )


def _check_background(contents: Mapping[Path, MaskContent], reading: MaskReading | None) -> None:
    """Refuse colored masks without black: it is not certain which color is the background."""
    for path, content in contents.items():
        if content.coding == "color" and BLACK not in content.values and content.count > 1:
            raise ContentError(
                f"{path} holds {_list_values(list(content.values), content.count)}, and none of"
                f" them is black, the background; {_values_hint(content.values)}"
            )


def _named_reading(
    contents: Mapping[Path, MaskContent],
    classes: Sequence[str],
    mask_values: Mapping[Any, Any],
    ignored: Value | None,
) -> MaskReading:
    names_of = {
        parse_mask_value(value): [names]
        if isinstance(names, str)
        else [str(name) for name in names]
        for value, names in mask_values.items()
    }
    names = list(dict.fromkeys(name for of in names_of.values() for name in of))
    named = tuple(name for name in names if name != BACKGROUND)
    order = tuple(classes) or named
    unnamed = [name for name in order if name not in named]
    if unnamed or not named:
        raise ContentError(
            f"datamodule.mask_values names {', '.join(named) or 'no class'}, and not"
            f" {', '.join(unnamed) or 'any'}; name each class of the data set there"
        )
    channels: dict[Value, tuple[int, ...]] = {
        value: tuple(order.index(name) for name in of if name in order)
        for value, of in names_of.items()
    }
    others = channels.pop(ANY_VALUE, None)
    by_color = any(isinstance(value, str) for value in channels)
    for value in [value for value in channels if isinstance(value, str)]:
        if len({value[1:3], value[3:5], value[5:]}) == 1:  # a gray, which is stored as one number
            channels.setdefault(int(value[1:3], 16), channels[value])
    if not (by_color and BACKGROUND in names):  # else another color than black is the background
        channels.setdefault(0, ())
        channels.setdefault(BLACK, ())
    palettes = [path for path, content in contents.items() if content.coding == "palette"]
    if not by_color and palettes and not _indexes_are_labels(contents):
        raise ContentError(
            f"{palettes[0]} and other palette images number their colors differently, so their"
            " indexes are no labels; name colors in datamodule.mask_values, such as"
            f' "{max(contents[palettes[0]].colors.values())}"'
        )
    reading = MaskReading(order, channels, ignored, palette=not by_color, others=others)
    for path, content in contents.items():
        seen = content.as_colors() if by_color else content
        unknown = [v for v in seen.values if v not in channels and v != ignored]
        if others is None and not seen.soft and (unknown or seen.count > len(seen.values)):
            raise ContentError(
                f"{path} holds {_list_values(unknown or list(seen.values), len(unknown))}, which"
                " datamodule.mask_values does not name; add it there, as background if it is no"
                " class, or set datamodule.ignore_value"
            )
    return reading


def _indexes_are_labels(contents: Mapping[Path, MaskContent]) -> bool:
    """Return True if the indexes of all palettes mean the same.

    Index 0 is then black, and an index has the same color in all files; otherwise each program
    that wrote a file has renumbered its colors.
    """
    colors: dict[int, str] = {}
    for content in contents.values():
        for index, color in content.colors.items():
            if colors.setdefault(index, color) != color:
                return False
    return colors.get(0, BLACK) == BLACK and len(set(colors.values())) == len(colors)


def _uncertain(
    contents: Mapping[Path, MaskContent], classes: Sequence[str], ignored: Value | None
) -> str:
    files: Counter[Value] = Counter()
    for content in contents.values():
        files.update(content.values)
    most = max(contents.values(), key=lambda content: content.count)
    rarest = min(files, key=lambda value: files[value])  # a single odd file is named by its value
    odd = files[rarest] < len(contents) and len(files) <= MAX_CLASSES
    first = next(
        path
        for path, content in contents.items()
        if (rarest in content.values if odd else content is most)
    )
    where = str(first) if len(contents) == 1 else commonpath([str(path) for path in contents])
    values = sorted(files, key=_order)
    listed = ", ".join(
        f"{value} in {files[value]} file{'s' * (files[value] > 1)}" for value in values[:MAX_LISTED]
    )
    more = f" ... ({max(len(values), most.count)} values)" if len(values) > MAX_LISTED else ""
    expected = (
        f"do not identify the {len(classes)} classes {', '.join(classes)}"
        if len(classes) > 1
        else f"do not identify the class {classes[0]}"
        if classes
        else "do not identify the classes"
    )
    if len(contents) == 1:
        return (
            f"{where} holds {_list_values(list(most.values), most.count)}, which {expected};"
            f" {_values_hint(values)}"
        )
    return (
        f"{where}: the masks hold {listed}{more}, such as {first.name}, which {expected};"
        f" {_values_hint(values)}"
    )


def _values_hint(values: Collection[Value]) -> str:
    if len(values) > MAX_CLASSES:  # a photograph, or a blurred mask: no list of labels
        return REDRAW_HINT
    named = [value for value in values if value not in (0, BLACK)][:4]
    example = ", ".join(
        f"{value if isinstance(value, int) else f'{chr(34)}{value}{chr(34)}'}: class_{letter}"
        for value, letter in zip(named or [1], "abcd", strict=False)
    )
    return (
        f"say what each is with 'datamodule.mask_values={{{example}}}' (and the value of unknown"
        f" pixels with datamodule.ignore_value), or {REDRAW_HINT}"
    )


def _order(value: Value) -> tuple[bool, int, str]:
    return (
        (isinstance(value, str), value, "")
        if isinstance(value, int)
        else (True, int(value[1:], 16), value)
    )


def _to_number(value: Value) -> int:
    return int(value[1:], 16) if isinstance(value, str) else value


def read_mask_size(path: Path, reader: ImageReader, index: "SliceIndex | None" = None) -> Size:
    """Return height and width of a mask file, or of its slice, without decoding an image."""
    if path.suffix.lower() != ".npy":
        return replace(reader, frame=0).read_size(path, index=index)
    height, width = _load_array(path, reader.max_pixels).shape
    return height, width


def _describe_volume(path: Path, reader: ImageReader) -> MaskContent:
    """Return which values a whole label volume holds."""
    from datamodules.formats.volumes import read_volume

    values = read_volume(path, _mask_frame(path, reader), reader.max_file_bytes).values
    content = _describe_gray(path, values.reshape(-1, values.shape[2]))[1]
    return replace(content, separate=_are_connected_in_3d(values, content.values))


def _are_connected_in_3d(volume: np.ndarray, values: Sequence[Value]) -> bool:
    """Return True if each value but 0 is one connected part of a volume."""
    numbers = [value for value in values if isinstance(value, int)]
    if not numbers or numbers[0] < 0 or numbers[-1] > MAX_CLASSES:
        return False
    places = ndimage.find_objects(volume.astype(np.uint8))
    neighbors = np.ones((3, 3, 3))
    return all(
        ndimage.label(volume[place] == value, structure=neighbors)[1] == 1
        for value, place in enumerate(places, start=1)
        if place is not None
    )


def _mask_frame(path: Path, reader: ImageReader) -> int | None:
    """Return the frame of a label volume; one label map may belong to all frames of an image."""
    from datamodules.formats.volumes import read_grid

    frames = read_grid(path).frames
    if frames > 1 and reader.frame == "channels":
        raise ContentError(
            f"{path} holds {frames} volumes, and a mask of datamodule.frame=channels holds one;"
            " write one label map"
        )
    return None if frames == 1 or reader.frame == "channels" else reader.frame


def _load_values(
    path: Path, reader: ImageReader, index: "SliceIndex | None" = None
) -> tuple[np.ndarray, MaskContent]:
    """Return the stored values of a mask, `H x W`, and which there are; a color is 0xRRGGBB."""
    if is_volume(path):
        from datamodules.formats.volumes import cut_slice

        return _describe_gray(
            path, cut_slice(path, index, _mask_frame(path, reader), reader.max_file_bytes)
        )
    if path.suffix.lower() == ".npy":
        return _describe_gray(path, _load_array(path, reader.max_pixels))
    data = read_bytes(path, reader.max_file_bytes)
    if is_dicom(path, data):
        return _describe_gray(path, reader.read(path, 1, data).to_uint8(None)[..., 0])
    image = replace(reader, frame=0).decode(path, data)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ContentError(
            f"{path} holds {frames} images, and a mask file holds one; write each as its own file"
        )
    pixels, content = _describe_image(path, image, data)
    return turn_as_shown(pixels, image), content


def _describe_image(path: Path, image: Image.Image, data: bytes) -> tuple[np.ndarray, MaskContent]:
    if image.mode == "P" and "transparency" not in image.info:
        return _describe_palette(path, image)
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        # also one gray value or color that is declared transparent
        return _describe_color(path, np.asarray(image.convert("RGBA")))
    pixels = _raw_pixels(path, image, data)
    return _describe_gray(path, pixels) if pixels.ndim == 2 else _describe_color(path, pixels)


def _check_array_size(path: Path, max_pixels: int) -> None:
    """Compare the size in the header of an .npy file with that of the file, before it is read."""
    with path.open("rb") as file:
        major, _ = np.lib.format.read_magic(file)
        later = np.lib.format.read_array_header_2_0
        shape, _, dtype = (np.lib.format.read_array_header_1_0 if major == 1 else later)(file)
        begins = file.tell()
    if len(shape) == 2:
        check_pixels(path, *shape, max_pixels)
    pixels = math.prod(shape)
    if begins + pixels * dtype.itemsize != path.stat().st_size and not dtype.hasobject:
        raise ManifestError(
            f"{path} is cut off or damaged, its header announces {pixels:,} values; write it with"
            " numpy.save"
        )


def _load_array(path: Path, max_pixels: int) -> np.ndarray:
    """Return a two-dimensional array of an .npy file."""
    check_file(path, sys.maxsize)  # the header tells how much is read
    try:
        with NUMPY_HEADER:
            _check_array_size(path, max_pixels)
            array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise ManifestError(f"{path} cannot be read ({error}); write it with numpy.save") from error
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        shape = " x ".join(map(str, array.shape))
        raise ContentError(
            f"{path} is an array {shape} of {array.dtype}; write height x width numbers"
        )
    return array


def _describe_gray(
    path: Path, pixels: np.ndarray, coding: Coding = "gray"
) -> tuple[np.ndarray, MaskContent]:
    if pixels.dtype == bool:
        pixels = pixels.view(np.uint8)
    if pixels.dtype.kind == "f":
        _check_finite(path, pixels)
        if (pixels == np.rint(pixels)).all():
            pixels = pixels.astype(np.int64)
    values = _unique(pixels)
    if len(values) > 1 and not (len(values) == 2 and values[0] == 0):
        eight_bits = _scale_to_8_bit(pixels)
        if eight_bits is not None and _has_soft_edges(eight_bits):
            return pixels, MaskContent(coding, (0, 255), 2, soft=True)
    if pixels.dtype.kind == "f":
        raise ContentError(
            f"{path} holds {_list_values(values.tolist(), len(values))}, which are no labels;"
            f" {REDRAW_HINT}"
        )
    listed = tuple(int(value) for value in values[: MAX_CLASSES + 2])
    separate = len(values) <= MAX_CLASSES and _are_connected(pixels, listed)
    return pixels, MaskContent(coding, listed, len(values), separate=separate)


def _are_connected(pixels: np.ndarray, values: Sequence[int]) -> bool:
    """Return True if each value but 0 is one connected area; values from 1 on may be objects."""
    if not values or values[-1] > MAX_CLASSES or values[0] < 0:
        return False
    return all(
        cv2.connectedComponents((pixels == value).astype(np.uint8), connectivity=8)[0] == 2
        for value in values
        if value != 0
    )


def _unique(pixels: np.ndarray) -> np.ndarray:
    """Return the different values `H x W`, ascending; much faster than np.unique for integers."""
    if pixels.dtype == np.uint8:
        return np.flatnonzero(cv2.calcHist([pixels], [0], None, [256], [0, 256]))
    if pixels.dtype.kind in "iu" and pixels.size:
        low, high = int(pixels.min()), int(pixels.max())
        if high - low < N_LEVELS:
            found = np.zeros(high - low + 1, bool)
            for rows in np.array_split(pixels, -(-pixels.size // COUNTED_PIXELS)):
                found |= np.bincount(rows.ravel().astype(np.int64) - low, minlength=len(found)) > 0
            return np.flatnonzero(found) + low
    return np.unique(pixels)


def _describe_color(path: Path, pixels: np.ndarray) -> tuple[np.ndarray, MaskContent]:
    """Describe `H x W x channels`: equal colors are gray, and opacity may be the mask."""
    colors = pixels
    if pixels.shape[2] in (2, 4):
        alpha, colors = pixels[..., -1], pixels[..., :-1]
        top = np.iinfo(pixels.dtype).max
        if (alpha != top).any():
            if (colors == colors[:1, :1]).all():
                return _describe_gray(path, np.ascontiguousarray(alpha), "alpha")
            colors = _clear_transparent(path, colors, alpha, int(top))
    if all((colors[..., 0] == colors[..., c]).all() for c in range(1, colors.shape[2])):
        return _describe_gray(path, np.ascontiguousarray(colors[..., 0]))
    if colors.dtype != np.uint8:
        raise ContentError(
            f"{path} holds colors of 16 bits, which cannot be read as classes; {REDRAW_HINT}"
        )
    red, green, blue = (colors[..., c].astype(np.uint32) for c in range(3))
    packed = (red << 16) | (green << 8) | blue
    values = np.unique(packed)
    listed = tuple(f"#{value:06x}" for value in values[: MAX_CLASSES + 2].tolist())
    return packed, MaskContent("color", listed, len(values))


def _clear_transparent(path: Path, colors: np.ndarray, alpha: np.ndarray, top: int) -> np.ndarray:
    """Make transparent pixels black, which is the background.

    Raises:
        ContentError: Pixels are half transparent, or a hidden color contradicts a visible one.
    """
    clear = alpha == 0
    hidden, visible = colors[clear], colors[~clear]
    contradicts = (hidden != hidden[:1]).any() or (
        hidden[:1].any() and (visible == hidden[:1]).all(1).any()
    )
    if (clear | (alpha == top)).all() and not contradicts:
        return np.where(clear[..., None], 0, colors).astype(colors.dtype)
    raise ContentError(
        f"{path} has an alpha channel with"
        f" {_list_values(_unique(alpha).tolist(), len(_unique(alpha)))}, so color and alpha may"
        f" contradict each other; {REDRAW_HINT}"
    )


def _describe_palette(path: Path, image: Image.Image) -> tuple[np.ndarray, MaskContent]:
    index = np.asarray(image)
    used = _unique(index).tolist()
    entries = (image.getpalette("RGB") or []) + [0] * 768
    colors = {
        number: "#{:02x}{:02x}{:02x}".format(*entries[3 * number : 3 * number + 3])
        for number in used
    }
    if len(set(colors.values())) < len(colors):
        raise ContentError(
            f"{path} holds {_list_values(list(colors.values()), len(colors))} of a palette, and"
            f" several palette entries have the same color; {REDRAW_HINT}"
        )
    separate = _are_connected(index, used)
    return index, MaskContent("palette", tuple(used), len(used), colors, separate=separate)


def _palette_to_colors(index: np.ndarray, content: MaskContent) -> tuple[np.ndarray, MaskContent]:
    """Replace palette indexes by gray values, or by colors as 0xRRGGBB."""
    by_color = content.as_colors()
    table = np.zeros(256, np.uint32)
    for number, color in content.colors.items():
        table[number] = int(color[1:3] if by_color.coding == "gray" else color[1:], 16)
    return table[index], by_color


def _scale_to_8_bit(gray: np.ndarray) -> np.ndarray | None:
    """Return the image on the scale 0..255, or None if its full scale is unknown."""
    if gray.dtype == np.uint8:
        return gray
    lowest, highest = gray.min(), gray.max()
    if lowest < 0 or highest > 65535:
        return None
    if highest <= 1:  # a float image from 0 to 1
        return np.rint(gray * 255).astype(np.uint8)
    return np.rint(gray if highest <= 255 else gray.astype(np.float32) / 257).astype(np.uint8)


def _has_soft_edges(gray: np.ndarray) -> bool:
    """Return True if the gray values are the soft edges of a white area.

    JPEG and interpolation cause such edges. A uniform gray area is a label, not an edge.
    """
    counts = cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel()
    dark, light = counts[: SOFT_WIDTH + 1].sum(), counts[255 - SOFT_WIDTH :].sum()
    if not dark or not light or dark + light < SOFT_FRACTION * gray.size:
        return False
    lowest = (
        SOFT_WIDTH if counts[SOFT_WIDTH + 1 : 255].any() else 0
    )  # JPEG also causes areas of 1 or 2, but never without edges
    between = (gray > lowest) & (gray < 255 - SOFT_WIDTH)
    square = np.ones((3, 3), np.uint8)
    return not (
        between & (cv2.erode(gray, square) == cv2.dilate(gray, square))
    ).any()  # an area of one gray value is a label


def _raw_pixels(path: Path, image: Image.Image, data: bytes) -> np.ndarray:
    """Return the pixels in the bit depth of the file.

    Pillow keeps only the upper 8 of 16 bits of a color, which turns 1 into 0.
    """
    if len(image.getbands()) > 1 and bit_depth(image, data) > 8:
        return decode_deep_color(path, image, data, REDRAW_HINT)
    known = image.mode in (
        "1",
        "L",
        "LA",
        "RGB",
        "RGBA",
        "RGBX",
        "I",
        "F",
    ) or image.mode.startswith("I;16")
    return np.asarray(image if known else image.convert("RGB"))


def _check_finite(path: Path, pixels: np.ndarray) -> None:
    if not np.isfinite(pixels).all():
        raise ContentError(
            f"{path} holds pixels that are not finite numbers (NaN or infinite); {REDRAW_HINT}"
        )


def _list_values(found: Sequence[Any], count: int) -> str:
    """List the first values, and their number if there are more."""
    kind = "color" if found and isinstance(found[0], str) else "value"
    first = ", ".join(
        f"{value:g}" if isinstance(value, float) else str(value) for value in found[:MAX_LISTED]
    )
    more = f" ... ({count} {kind}s)" if count > MAX_LISTED else ""
    return f"the {kind}{'s' if count > 1 else ''} {first}{more}"
