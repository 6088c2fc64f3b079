"""Reader of mask images: converts the values of a gray or palette image to 0/1 masks.

Ambiguous images are refused, never guessed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image

from datamodules.errors import ContentError
from datamodules.formats.image_files import is_dicom
from datamodules.formats.image_io import (
    DEFAULT_READER,
    ImageReader,
    bit_depth,
    decode_deep_color,
    read_bytes,
    turn_as_shown,
)

MaskEncoding = Literal["bit_planes"]
MASK_ENCODINGS = ("bit_planes",)
MAX_BITS = 8  # largest number of classes in one image of bit planes
# a mask with soft edges has at least this fraction of its pixels within this many gray levels (of
# 255) of black or white
SOFT_FRACTION, SOFT_WIDTH = (0.98, 32)
MAX_LISTED = 8  # values that a message lists
REDRAW_HINT = "write the mask as a gray image of 0 (background) and 255 (lesion)"
RGBColor = tuple[int, ...]


class MaskImage(NamedTuple):
    """Content of one mask image.

    Attributes:
        mask: uint8 0/1, `H x W x classes`.
        soft: True if the image has gray edges, which were cut at > 127 of 255.
    """

    mask: np.ndarray
    soft: bool


def read_mask(
    path: Path,
    classes: int = 1,
    encoding: str | None = None,
    reader: ImageReader = DEFAULT_READER,
) -> MaskImage:
    """Read one mask image by its stored values.

    An image of one class holds 0 and 1, or 0 and its largest value (255; 65535 in 16 bits), or soft
    edges between black and white, or a palette with two used colors: black is the background, the
    other color is the lesion.

    Args:
        path: The file; every error message names it.
        classes: Number of channels of the mask.
        encoding: `bit_planes`: bit c of a gray value is class c. One class needs no encoding
            (None).
        reader: Reader of the data set's files, for its limit of pixels.

    Raises:
        ContentError: The values do not identify the lesion; there are several classes without an
            encoding; a value has more bits than there are classes; or there are more than MAX_BITS
            classes.
        ManifestError: The file is missing or cannot be decoded.
    """
    if classes > MAX_BITS:
        fix = "write one compressed RLE for each class instead"
        raise ContentError(
            f"{path} is one mask image, which holds at most {MAX_BITS} classes, and there are"
            f" {classes}; {fix}"
        )
    if encoding == "bit_planes":
        return MaskImage(_read_bit_planes(path, classes, reader), False)
    if classes > 1:
        fix = (
            "set datamodule.mask_encoding=bit_planes if bit c of a pixel's value is class c, or"
            " write one compressed RLE for each class"
        )
        raise ContentError(
            f"{path} is one mask image for {classes} classes, and no encoding is set; {fix}"
        )
    lesion, soft = _read_single_class(path, reader)
    return MaskImage(lesion[..., None], soft)


def _read_bit_planes(path: Path, classes: int, reader: ImageReader) -> np.ndarray:
    gray, _ = _read_gray_values(path, reader, two_colors=False)
    if (
        np.issubdtype(gray.dtype, np.floating)
        or int(gray.max()) >= 2**classes
        or int(gray.min()) < 0
    ):
        allowed = (
            f"the bits of {classes} {'class' if classes == 1 else 'classes'} give values from 0 to"
            f" {2**classes - 1}"
        )
        raise ContentError(
            f"{path} holds {_describe_values(gray)}, but {allowed}; correct the image, or name all"
            " its classes with datamodule.classes"
        )
    return (gray.astype(np.uint8)[..., None] >> np.arange(classes, dtype=np.uint8)) & 1


def _read_single_class(path: Path, reader: ImageReader) -> tuple[np.ndarray, bool]:
    """Return the lesion as uint8 0/1 `H x W`, and True if its edges were soft."""
    gray, colors = _read_gray_values(path, reader, two_colors=True)
    highest = gray.max()
    lesion = gray == highest
    pure = bool((lesion | (gray == 0)).all())  # much faster than np.unique
    if pure and highest in (0, 1, 255, *((65535,) if gray.dtype != np.uint8 else ())):
        return (lesion if highest else np.zeros_like(lesion)).view(np.uint8), False
    eight_bits = _scale_to_8_bit(gray)
    if eight_bits is not None and _has_soft_edges(eight_bits):
        return (eight_bits > 127).astype(np.uint8), True
    raise ContentError(
        f"{path} holds {colors or _describe_values(gray)}, which do not identify the lesion;"
        f" {REDRAW_HINT}"
    )


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


def _read_gray_values(
    path: Path, reader: ImageReader, two_colors: bool
) -> tuple[np.ndarray, str | None]:
    """Read the stored values of an image, `H x W`, as integers or float32.

    Args:
        path: The file.
        reader: Reader of the data set's files.
        two_colors: True to convert a palette of two used colors, one of them black, to 0 and 255.

    Returns:
        The values, and for a palette a description of its colors.
    """
    data = read_bytes(path)
    if is_dicom(path, data):
        return reader.read(path, 1, data).to_uint8(None)[..., 0], None
    image = replace(reader, frame=0).decode(path, data)
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ContentError(
            f"{path} holds {frames} images, and a mask file holds one; write each as its own file"
        )
    if image.mode == "P":
        gray, colors = _read_palette(path, image, two_colors)
        return turn_as_shown(gray, image), colors
    pixels = _raw_pixels(path, image, data)
    if pixels.dtype == bool:
        pixels = pixels.view(np.uint8)
    if np.issubdtype(pixels.dtype, np.floating):
        _check_finite(path, pixels)
    gray = _to_single_channel(path, pixels) if pixels.ndim == 3 else pixels
    _check_transparency(path, image, gray)
    return turn_as_shown(gray, image), None


def _raw_pixels(path: Path, image: Image.Image, data: bytes) -> np.ndarray:
    """Return the pixels in the bit depth of the file.

    Pillow keeps only the upper 8 of 16 bits of a color, which turns 1 into 0.
    """
    if len(image.getbands()) > 1 and bit_depth(image, data) > 8:
        return decode_deep_color(path, image, data, REDRAW_HINT)
    if image.mode in ("PA", "La", "RGBa"):
        return np.asarray(image.convert("RGBA"))
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


def _to_single_channel(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the gray values of `H x W x channels` with equal colors; alpha must be opaque."""
    colors = pixels
    if pixels.shape[2] in (2, 4):
        alpha, colors = pixels[..., -1], pixels[..., :-1]
        if (alpha != np.iinfo(pixels.dtype).max).any():
            raise ContentError(
                f"{path} has an alpha channel with {_describe_values(alpha)}, so color and"
                f" alpha may contradict each other; {REDRAW_HINT}"
            )
    if any((colors[..., 0] != colors[..., channel]).any() for channel in range(1, colors.shape[2])):
        found, counts = np.unique(
            colors.reshape(-1, colors.shape[2])[:, :3], axis=0, return_counts=True
        )
        listed = [tuple(color) for color in found[np.argsort(-counts, kind="stable")].tolist()]
        raise ContentError(
            f"{path} holds {_list_values(listed, 'color')}, which do not identify the lesion;"
            f" {REDRAW_HINT}"
        )
    return np.ascontiguousarray(colors[..., 0])


def _read_palette(path: Path, image: Image.Image, two_colors: bool) -> tuple[np.ndarray, str]:
    """Return the gray values of an image with a palette.

    With `two_colors`, two used colors, one of them black, become 0 and 255.
    """
    index = np.asarray(image)
    used = np.flatnonzero(cv2.calcHist([index], [0], None, [256], [0, 256])).tolist()
    entries = (image.getpalette("RGBA") or []) + [0, 0, 0, 255] * 256
    of_index = {number: tuple(entries[4 * number : 4 * number + 4]) for number in used}
    colors = [color[:3] for color in of_index.values()]
    description = _list_values(colors, "color") + " of a palette"
    if any(color[3] != 255 for color in of_index.values()) or _is_transparent(image, used):
        raise ContentError(
            f"{path} holds {description}, some of them transparent, so color and alpha may"
            f" contradict each other; {REDRAW_HINT}"
        )
    if len(set(colors)) < len(colors):
        raise ContentError(
            f"{path} holds {description}, and several palette entries have the same color;"
            f" {REDRAW_HINT}"
        )
    table = np.zeros(256, np.uint8)
    if two_colors and len(used) == 2 and (0, 0, 0) in colors:
        table[[number for number, color in of_index.items() if color[:3] != (0, 0, 0)]] = 255
    elif all(len(set(color)) == 1 for color in colors) and not (two_colors and len(used) == 2):
        for number, color in of_index.items():
            table[number] = color[0]
    else:
        why = (
            "and none of them is black, the background"
            if two_colors and len(used) <= 2
            else "which do not identify the lesion"
        )
        raise ContentError(f"{path} holds {description}, {why}; {REDRAW_HINT}")
    return table[index], description


def _is_transparent(image: Image.Image, used: list[int]) -> bool:
    """Return True if the palette's separate list of opacities makes a used entry transparent."""
    transparency: Any = image.info.get("transparency")
    if isinstance(transparency, bytes):
        return any(number < len(transparency) and transparency[number] != 255 for number in used)
    return isinstance(transparency, int) and transparency in used


def _check_transparency(path: Path, image: Image.Image, gray: np.ndarray) -> None:
    transparency: Any = image.info.get("transparency")
    value = (
        transparency[0]
        if isinstance(transparency, tuple) and len(set(transparency)) == 1
        else transparency
    )
    if isinstance(value, int) and (gray == value).any():
        raise ContentError(
            f"{path} declares its value {value} transparent, so color and alpha may contradict each"
            f" other; {REDRAW_HINT}"
        )


def _check_finite(path: Path, pixels: np.ndarray) -> None:
    if not np.isfinite(pixels).all():
        raise ContentError(
            f"{path} holds pixels that are not finite numbers (NaN or infinite); {REDRAW_HINT}"
        )


def _describe_values(pixels: np.ndarray) -> str:
    """List the first values of an image, and their number if there are more."""
    return _list_values(np.unique(pixels).tolist(), "value")


def _list_values(found: list[Any], what: str) -> str:
    first = ", ".join(
        f"{value:g}" if isinstance(value, float) else str(value) for value in found[:MAX_LISTED]
    )
    more = f" ... ({len(found)} {what}s)" if len(found) > MAX_LISTED else ""
    return f"the {what}{'s' if len(found) > 1 else ''} {first}{more}"
