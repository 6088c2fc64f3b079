"""Reader of one image file into uint8 pixels."""

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from datamodules.errors import MAX_IMAGE_PIXELS, ContentError, ManifestError

MAX_UNIFORM_SPREAD = 2  # gray levels (of 255) that an image without content spans at most
IMAGE_SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".dcm",
}  # suffixes of the files that are read


def read_image(path: Path, channels: int, data: bytes | None = None) -> np.ndarray:
    """Decode a png, jpg, bmp, tif or DICOM file.

    Args:
        path: The file; every error message names it.
        channels: 1 for gray, 3 for RGB.
        data: The file's bytes if they were read already.

    Returns:
        uint8 `H x W x channels`. 16-bit images are scaled from their own range to 0..255, DICOMs
        are windowed.

    Raises:
        ManifestError: The file is missing, truncated, not an image, or larger than
            MAX_IMAGE_PIXELS; for a DICOM see `read_dicom`.
        ContentError: A float image has a pixel that is NaN or infinite.
    """
    if is_dicom(path, data):
        from datamodules.formats.dicom import (
            read_dicom,  # pydicom takes half a second to import, and most runs have no DICOM
        )

        gray = read_dicom(path, data)[..., None]
        return gray if channels == 1 else np.repeat(gray, channels, axis=2)
    pixels = _to_uint8(path, decode_image(path, data), channels)
    return pixels[..., None] if channels == 1 else pixels


def decode_image(path: Path, data: bytes | None = None) -> Image.Image:
    """Decode a png, jpg, bmp or tif with Pillow; modes, palettes and depths stay as they are.

    Raises:
        ManifestError: The file is missing, truncated, not an image, or larger than
            MAX_IMAGE_PIXELS.
    """
    image = _open_image(path, data)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ManifestError(
            f"{path} cannot be decoded ({error}); replace the file or take it out of the data set"
        ) from error
    return image


def is_nearly_uniform(pixels: np.ndarray) -> bool:
    """Return True if uint8 pixels `H x W x C` show nothing.

    The central 99.8 % of the pixels of every channel then span at most MAX_UNIFORM_SPREAD levels.
    """
    return all(
        _gray_spread(np.ascontiguousarray(pixels[..., channel])) <= MAX_UNIFORM_SPREAD
        for channel in range(pixels.shape[2])
    )


def _gray_spread(gray: np.ndarray) -> int:
    """Return the 99.9th minus the 0.1th percentile of uint8 pixels, computed by histogram."""
    below = np.cumsum(cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel(), dtype=np.float64)
    low, high = np.searchsorted(below, [0.001 * gray.size, 0.999 * gray.size])
    return int(high - low)


def read_image_size(path: Path) -> tuple[int, int]:
    """Return height and width in pixels from the file's header, without decoding.

    Raises:
        ManifestError: See `read_image`.
    """
    if is_dicom(path, None):
        from datamodules.formats.dicom import read_dicom_size

        return read_dicom_size(path)
    with _open_image(path, None) as image:
        return image.height, image.width


def read_pixel_spacing(path: Path) -> tuple[float, float] | None:
    """Return the distance of rows and of columns in mm from a DICOM's header; None without one.

    Raises:
        ManifestError: as `read_image`.
    """
    if not is_dicom(path, None):
        return None
    from datamodules.formats.dicom import read_dicom_spacing

    return read_dicom_spacing(path)


def is_dicom(path: Path, data: bytes | None) -> bool:
    """Return True if name or content is that of a DICOM; exports often have no suffix."""
    if path.suffix.lower() == ".dcm":
        return True
    if data is None and path.is_file():
        with path.open("rb") as file:
            data = file.read(132)
    return data is not None and data[128:132] == b"DICM"


def _open_image(path: Path, data: bytes | None) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # MAX_IMAGE_PIXELS is checked instead
            image = Image.open(path if data is None else io.BytesIO(data))
    except FileNotFoundError as error:
        raise ManifestError(
            f"{path} does not exist; restore the file or take it out of the data set"
        ) from error
    except Image.DecompressionBombError as error:
        raise _size_error(path) from error
    except (UnidentifiedImageError, OSError) as error:
        raise ManifestError(
            f"{path} is not an image that can be read ({_short_reason(error)}); replace or"
            " remove it"
        ) from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise _size_error(path)
    return image


def _size_error(path: Path) -> ManifestError:
    return ManifestError(
        f"{path} has a header size above the limit of {MAX_IMAGE_PIXELS:,} pixels; replace or"
        f" remove it"
    )


def _short_reason(error: Exception) -> str:
    return (
        "unknown format" if isinstance(error, UnidentifiedImageError) else str(error).split(" '")[0]
    )


def _to_uint8(path: Path, image: Image.Image, channels: int) -> np.ndarray:
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        wide = np.asarray(image, np.float32)
        if image.mode == "F" and (lost := int(np.count_nonzero(~np.isfinite(wide)))):
            fix = "write finite numbers there, or take the file out of the data set"
            raise ContentError(
                f"{path} holds {lost} pixel{'s' * (lost > 1)} that {'are' if lost > 1 else 'is'}"
                f" NaN or infinite; {fix}"
            )
        low, high = float(wide.min()), float(wide.max())
        gray = Image.fromarray(
            ((wide - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8)
        )
        return np.asarray(gray if channels == 1 else gray.convert("RGB"))
    return np.asarray(image.convert("L" if channels == 1 else "RGB"))
