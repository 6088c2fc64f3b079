"""Reader of DICOM files as uint8 images: look-up tables, window, MONOCHROME1."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.decoders.pylibjpeg import DECODER_DEPENDENCIES
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit

from datamodules.errors import MAX_IMAGE_PIXELS, ContentError, ManifestError, UserError

LEVEL_TAGS = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
MAX_LEVEL = float(
    np.finfo(np.float32).max
)  # limit of these numbers, because pixels become float32; NaN does not pass this limit either


class InvalidDisplayLevels(ValueError):
    """Error for a window or rescaling that cannot display an image.

    The message is only the reason; the caller adds the file.
    """


def check_display_levels(dataset: Dataset) -> None:
    """Refuse a window or rescaling that is not finite, and a window of negative width.

    A width or slope of 0 counts as absent, a negative slope inverts, and centers and intercepts may
    be negative.

    Raises:
        InvalidDisplayLevels: A value is refused; the message names the element and its value.
    """
    for keyword in LEVEL_TAGS:
        value = _first_value(dataset, keyword)
        if value is not None and not abs(value) <= MAX_LEVEL:
            raise InvalidDisplayLevels(f"{keyword}={value:g}, which is not a finite number")
    width = _first_value(dataset, "WindowWidth")
    if width is not None and width < 0:
        raise InvalidDisplayLevels(f"WindowWidth={width:g}, which is negative")


def to_display_uint8(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Convert stored values to the gray image that a viewer shows.

    The modality LUT or rescaling comes first, then the VOI LUT or window, then the inversion of
    MONOCHROME1.

    Args:
        stored: Decoded values `H x W`, or RGB `H x W x 3`.
        dataset: Elements of the file; the first of several windows or VOI LUTs is used.

    Returns:
        uint8 `H x W`. Without a window, 8-bit values stay as they are and deeper values are scaled
        by their own range.

    Raises:
        InvalidDisplayLevels: See `check_display_levels`; or rescaling produces pixels that are not
            finite.
    """
    check_display_levels(dataset)
    if stored.ndim == 3:
        stored = cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)
    elif dataset.get("VOILUTSequence"):
        stored = _apply_voi_lut(_apply_rescale(stored, dataset), dataset.VOILUTSequence[0], dataset)
    elif _first_value(dataset, "WindowWidth") and _first_value(dataset, "WindowCenter") is not None:
        stored = _apply_window(_apply_rescale(stored, dataset), dataset)
    elif not _keeps_value_order(dataset):
        stored = _apply_rescale(stored, dataset)
    pixels = stored if stored.dtype == np.uint8 else _stretch_range(stored, dataset)
    return cv2.bitwise_not(pixels) if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels


def _keeps_value_order(dataset: Dataset) -> bool:
    """Return True if no modality transform can change the order of the values."""
    return not dataset.get("ModalityLUTSequence") and float(dataset.get("RescaleSlope") or 1) > 0


def _first_value(dataset: Dataset, keyword: str) -> float | None:
    value = dataset.get(keyword)
    if value is None or isinstance(value, int | float):
        return value
    return float(value[0]) if len(value) and value[0] != "" else None


def _apply_rescale(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        return _read_lut(item, dataset)[_lut_positions(stored, item)]
    slope, intercept = (
        float(dataset.get("RescaleSlope") or 1),
        float(dataset.get("RescaleIntercept") or 0),
    )
    if (slope, intercept) == (1, 0):
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored * np.float32(slope) + np.float32(intercept)
    if not np.isfinite([values.min(), values.max()]).all():
        raise InvalidDisplayLevels(
            f"RescaleSlope={slope:g} and RescaleIntercept={intercept:g}, which make pixels that are"
            " not finite"
        )
    return values


def _apply_window(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Convert values to uint8 by the first window.

    The function is LINEAR as defined by the DICOM standard, unless the file sets LINEAR_EXACT or
    SIGMOID.
    """
    center, width = (
        float(_first_value(dataset, "WindowCenter") or 0),
        float(_first_value(dataset, "WindowWidth") or 1),
    )
    function = dataset.get("VOILUTFunction") or "LINEAR"
    distance = values.astype(np.float32) - np.float32(center)
    if function == "SIGMOID":
        displayed = 1 / (1 + np.exp(-4 * distance / width))
    elif function == "LINEAR_EXACT":
        displayed = distance / width + 0.5
    else:
        displayed = (distance + 0.5) / max(width - 1, 1e-6) + 0.5  # a window of width 1 is a step
    return (displayed.clip(0, 1) * 255).round().astype(np.uint8)


def _apply_voi_lut(values: np.ndarray, item: Dataset, dataset: Dataset) -> np.ndarray:
    """Map values through a VOI LUT and scale its full output range to uint8."""
    displayed = _read_lut(item, dataset).astype(np.float32)
    displayed *= 255 / (2 ** item.LUTDescriptor[2] - 1)
    return displayed.clip(0, 255).round().astype(np.uint8)[_lut_positions(values, item)]


def _lut_positions(values: np.ndarray, item: Dataset) -> np.ndarray:
    """Return the index of each value in a LUT, clipped to its first and last entry."""
    entries, first, _ = item.LUTDescriptor
    return (np.rint(values).astype(np.int64) - first).clip(0, (entries or 2**16) - 1)


def _read_lut(item: Dataset, dataset: Dataset) -> np.ndarray:
    """Return a LUT's entries; pydicom leaves them as bytes if their VR is OW."""
    if isinstance(item.LUTData, bytes):
        return np.frombuffer(
            item.LUTData, "<u2" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">u2"
        )
    return np.asarray(item.LUTData, np.uint16)


def _stretch_range(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Convert values to uint8: 8 stored bits as they are, others scaled by their own range."""
    if (
        dataset.BitsStored <= 8
        and not dataset.PixelRepresentation
        and np.issubdtype(values.dtype, np.integer)
        and _keeps_value_order(dataset)
    ):
        return values.astype(np.uint8)
    wide = values.astype(np.float32)
    low, high = float(wide.min()), float(wide.max())
    return ((wide - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8)


SIZE_TAGS = ["Rows", "Columns"]
SAMPLE_TAGS = [
    "NumberOfFrames",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
]
DISPLAY_TAGS = [
    *("PhotometricInterpretation", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
]
END_OF_JPEG = b"\xff\xd9"
warnings.filterwarnings(
    "ignore", module=r"pydicom\b"
)  # users cannot repair encodings; set once, not per file, because threads share the filters


def read_dicom(path: Path, data: bytes | None = None) -> np.ndarray:
    """Decode a single-frame DICOM as a viewer shows it; color becomes gray.

    Args:
        path: The file; every error message names it.
        data: The file's bytes if they were read already.

    Returns:
        uint8 `H x W`, bright where a MONOCHROME2 display is bright; see `to_display_uint8`.

    Raises:
        ManifestError: The file is not a DICOM, has no pixel data, is truncated, has several frames,
            is larger than MAX_IMAGE_PIXELS, or needs a codec that is not installed.
        ContentError: A window or rescaling cannot display an image, see `check_display_levels`.
    """
    with _translate_errors(path):
        dataset = dcmread(
            path if data is None else io.BytesIO(data),
            specific_tags=[*SIZE_TAGS, *SAMPLE_TAGS, *DISPLAY_TAGS],
        )
        _check_single_frame(path, dataset)
        stored = _decode_baseline_jpeg(dataset)
        if stored is None:
            _check_codec(path, dataset)
            stored = pixel_array(dataset)
        try:
            return to_display_uint8(stored, dataset)
        except InvalidDisplayLevels as error:
            raise ContentError(
                f"{path} has {error}; correct or delete that element, or take the file out of the"
                " data set"
            ) from error


def read_dicom_size(path: Path) -> tuple[int, int]:
    """Return height and width in pixels from the file's header, without decoding.

    Raises:
        ManifestError: The file is not a DICOM, or has no image.
    """
    with _translate_errors(path):
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=SIZE_TAGS)
        _check_dicom_size(path, dataset)
        return int(dataset.Rows), int(dataset.Columns)


def read_dicom_spacing(path: Path) -> tuple[float, float] | None:
    """Return PixelSpacing, the distance of rows and of columns in mm, from the file's header.

    ImagerPixelSpacing is not taken in its place: it is the spacing on the detector, where the body
    is magnified.

    Returns:
        None if the element is missing or is no spacing.

    Raises:
        ManifestError: not a DICOM.
    """
    with _translate_errors(path):
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["PixelSpacing"])
        values = [float(value) for value in dataset.get("PixelSpacing") or ()]
        if len(values) != 2 or not all(0 < value <= MAX_LEVEL for value in values):
            return None
        return values[0], values[1]


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Convert any error in the block into a ManifestError that names the file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise ManifestError(
            f"{path} does not exist; restore the file or take it out of the data set"
        ) from error
    except InvalidDicomError as error:
        raise ManifestError(
            f"{path} is not a DICOM file (no DICM behind its first 128 bytes); replace or remove it"
        ) from error
    except (
        Exception
    ) as error:  # a damaged element makes pydicom raise anything from EOFError to TypeError
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ManifestError(
            f"{path} cannot be decoded, it is truncated or damaged ({reason}); replace the file or"
            " take it out"
        ) from error


def _check_dicom_size(path: Path, dataset: Dataset) -> None:
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise ManifestError(
            f"{path} has no Rows and Columns, it is truncated or holds no picture; replace the file"
            " or take it out of the data set"
        )
    if dataset.Rows * dataset.Columns > MAX_IMAGE_PIXELS:
        raise ManifestError(
            f"{path} has a header size above the limit of {MAX_IMAGE_PIXELS:,} pixels; replace or"
            " remove it"
        )


def _check_single_frame(path: Path, dataset: Dataset) -> None:
    _check_dicom_size(path, dataset)
    if not dataset.get("PixelData"):
        raise ManifestError(
            f"{path} has no pixel data, it is truncated or no image; replace the file or take it"
            " out of the data set"
        )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ManifestError(
            f"{path} holds {dataset.NumberOfFrames} frames, but only single-frame files are read;"
            " export every frame as its own file"
        )
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise ManifestError(f"{path} is colored by a palette; export it as MONOCHROME2 or RGB")


def _decode_baseline_jpeg(dataset: Dataset) -> np.ndarray | None:
    """Decode a gray 8-bit JPEG with OpenCV, which lets other threads run.

    Returns:
        The pixels `H x W`; None for any other encoding and for a truncated JPEG.
    """
    if (
        dataset.file_meta.TransferSyntaxUID != JPEGBaseline8Bit
        or dataset.SamplesPerPixel != 1
        or dataset.BitsAllocated != 8
    ):
        return None
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if END_OF_JPEG not in frame[-64:]:  # OpenCV would silently fill the missing rows with gray
        return None
    pixels = cv2.imdecode(
        np.frombuffer(frame, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    )
    return (
        pixels if pixels is not None and pixels.shape == (dataset.Rows, dataset.Columns) else None
    )


def _check_codec(path: Path, dataset: Dataset) -> None:
    syntax: UID = dataset.file_meta.TransferSyntaxUID
    packages = " ".join(f"'{package}'" for package in DECODER_DEPENDENCIES.get(syntax, ()))
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ManifestError(
            f"{path} is compressed as {syntax.name}, which cannot be read; export it uncompressed"
        ) from error
    eight_bits_alone = (
        syntax == JPEGExtended12Bit
        and dataset.BitsStored > 8
        and set(decoder.available_plugins) == {"pillow"}
    )
    if not decoder.is_available or eight_bits_alone:
        raise ManifestError(
            f"{path} is compressed as {syntax.name}, whose codec is not installed; pip install"
            f" {packages}, or export it uncompressed"
        )
