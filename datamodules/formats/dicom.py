"""Reader of DICOM files: look-up tables, window, padding, MONOCHROME1, codecs."""

import io
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.decoders.pylibjpeg import DECODER_DEPENDENCIES
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
)

from datamodules.errors import (
    MAX_FILE_BYTES,
    MAX_IMAGE_PIXELS,
    ContentError,
    ManifestError,
    UserError,
)
from datamodules.formats.file_content import check_file
from datamodules.formats.gray_levels import SourceImage, encode_levels
from datamodules.formats.image_files import DICM_OFFSET, is_bare_dicom
from datamodules.formats.image_io import ImageReader, check_frame, check_pixels

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


def to_source_image(
    stored: np.ndarray, padding: np.ndarray | None, dataset: Dataset, ignore_window: bool
) -> SourceImage:
    """Convert stored values to gray levels, with the orientation of brightness of a viewer.

    The modality LUT or rescaling comes first, then the VOI LUT or window, then the inversion of
    MONOCHROME1. Padding does not count for a range and is black.

    Args:
        stored: Decoded values `H x W`, or RGB `H x W x 3`.
        padding: True for pixels that show nothing, `H x W`, or None.
        dataset: Elements of the file; the first of several windows or VOI LUTs is used.
        ignore_window: True to leave out the file's own window or VOI LUT.

    Returns:
        uint8 `H x W x 1` for a file with a window, and for 8-bit values, which stay as they are;
        otherwise the values behind the modality LUT or rescaling, as levels of 16 bits.

    Raises:
        InvalidDisplayLevels: See `check_display_levels`; or rescaling produces pixels that are not
            finite.
    """
    check_display_levels(dataset)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    if stored.ndim == 3:  # a window is not meant for colors
        stored = cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)
        if not _is_plain_8_bit(stored, dataset):
            return _deep_image(stored, dataset, padding, inverted)
    elif has_window(dataset) and not ignore_window:
        stored = _apply_own_window(_apply_rescale(stored, dataset), dataset)
    elif has_window(dataset) or not _is_plain_8_bit(stored, dataset):
        return _deep_image(stored, dataset, padding, inverted)
    pixels = stored.astype(np.uint8)
    pixels = np.invert(pixels) if inverted else pixels
    if padding is not None:
        pixels = np.where(padding, np.uint8(0), pixels)
    return SourceImage(pixels[..., None])


def _deep_image(
    stored: np.ndarray, dataset: Dataset, padding: np.ndarray | None, inverted: bool
) -> SourceImage:
    """Return the values behind the modality LUT or rescaling as levels of 16 bits."""
    if dataset.get("ModalityLUTSequence"):
        slope, intercept, stored = 1.0, 0.0, _apply_rescale(stored, dataset)
    else:
        slope, intercept = _rescaling(dataset)
    levels, meaning = encode_levels(stored, padding, slope, intercept, inverted)
    if not all(abs(value) <= MAX_LEVEL for value in meaning.value_range(levels)):
        raise InvalidDisplayLevels(
            f"RescaleSlope={slope:g} and RescaleIntercept={intercept:g}, which make pixels that are"
            " not finite"
        )
    return SourceImage(levels[..., None], meaning)


def has_window(dataset: Dataset) -> bool:
    """Return True if a file has a window or VOI LUT of its own; a width of 0 is none."""
    return bool(dataset.get("VOILUTSequence")) or bool(
        _first_value(dataset, "WindowWidth") and _first_value(dataset, "WindowCenter") is not None
    )


def _find_padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Return True for pixels of PixelPaddingValue, or up to PixelPaddingRangeLimit; None if none.

    An element that was written with the wrong sign is read as the bits that it has.
    """
    ends = [dataset.get(keyword) for keyword in PADDING_TAGS]
    if ends[0] is None:
        return None
    bits = [int(value) for value in ends if value is not None]
    if np.issubdtype(stored.dtype, np.integer):
        limits = np.iinfo(stored.dtype)
        size = limits.max - limits.min + 1
        bits = [(value - limits.min) % size + limits.min for value in bits]
    padding = (stored >= min(bits)) & (stored <= max(bits))
    return padding if padding.any() else None


def _is_plain_8_bit(stored: np.ndarray, dataset: Dataset) -> bool:
    """Return True for values that are gray levels of 8 bits already."""
    return (
        dataset.BitsStored <= 8
        and not dataset.PixelRepresentation
        and np.issubdtype(stored.dtype, np.integer)
        and _keeps_value_order(dataset)
    )


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
    slope, intercept = _rescaling(dataset)
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


def _rescaling(dataset: Dataset) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0 counts as absent."""
    return float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)


def _apply_own_window(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Convert values to uint8 by the file's first VOI LUT, or its first window."""
    if dataset.get("VOILUTSequence"):
        return _apply_voi_lut(values, dataset.VOILUTSequence[0], dataset)
    return _apply_window(values, dataset)


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
PADDING_TAGS = ["PixelPaddingValue", "PixelPaddingRangeLimit"]
DISPLAY_TAGS = [
    *("PhotometricInterpretation", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
]
META_BYTES = 2**12  # of a file, which hold its file meta information
END_OF_JPEG = b"\xff\xd9"
warnings.filterwarnings(
    "ignore", module=r"pydicom\b"
)  # users cannot repair encodings; set once, not per file, because threads share the filters


def read_dicom(path: Path, data: bytes | None, reader: ImageReader) -> SourceImage:
    """Decode one frame of a DICOM; color becomes gray.

    Args:
        path: The file; every error message names it.
        data: The file's bytes if they were read already.
        reader: Frame, limit of pixels and use of the file's own window.

    Returns:
        Gray levels `H x W x 1`, see `to_source_image`.

    Raises:
        ManifestError: The file is not a DICOM, has no pixel data, is truncated, has several frames
            of which none is chosen, is larger than `reader.max_pixels`, or is compressed in a way
            that cannot be decoded.
        ContentError: A window or rescaling cannot display an image, see `check_display_levels`.
    """
    with _translate_errors(path):
        tags = [*SIZE_TAGS, *SAMPLE_TAGS, *DISPLAY_TAGS, *PADDING_TAGS]
        dataset = _read_dataset(path, data, specific_tags=tags)
        _check_picture(path, dataset, reader)
        frame = 0 if reader.frame == "channels" else reader.frame or 0
        stored, padding = _decode_frame(path, dataset, frame)
        try:
            return to_source_image(stored, padding, dataset, reader.ignore_dicom_windows)
        except InvalidDisplayLevels as error:
            raise ContentError(
                f"{path} has {error}; correct or delete that element, or take the file out of the"
                " data set"
            ) from error


def read_dicom_size(path: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> tuple[int, int]:
    """Return height and width in pixels from the file's header, without decoding.

    Raises:
        ManifestError: The file is not a DICOM, or has no image.
    """
    with _translate_errors(path):
        dataset = _read_dataset(path, None, stop_before_pixels=True, specific_tags=SIZE_TAGS)
        _check_dicom_size(path, dataset, max_pixels)
        return int(dataset.Rows), int(dataset.Columns)


def has_image(path: Path) -> bool:
    """Return True if a DICOM's header announces an image, which a report or DICOMDIR lacks."""
    try:
        read_dicom_size(path, sys.maxsize)
    except ManifestError:
        return False
    return True


def _read_dataset(path: Path, data: bytes | None, **options: Any) -> Dataset:
    """Read a DICOM, also one without preamble or without file meta information.

    The transfer syntax is then the one in which the elements are written.

    Raises:
        InvalidDicomError: The content is not that of a DICOM.
    """
    if data is None:
        check_file(path, sys.maxsize)  # a header is read of it, or the caller has checked its size
    with path.open("rb") if data is None else io.BytesIO(data) as file:
        start = file.read(META_BYTES)
        file.seek(0)
        if str(DeflatedExplicitVRLittleEndian).encode() in start:
            _check_deflated(path, file, start)
            file.seek(0)
        bare = start[DICM_OFFSET : DICM_OFFSET + 4] != b"DICM"
        if bare and not is_bare_dicom(start):
            raise InvalidDicomError
        dataset = dcmread(file, force=bare, **options)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
            raise ManifestError(
                f"{path} is compressed, and no Transfer Syntax UID tells how; write it again with"
                " its file meta information, or export it uncompressed"
            )
    return dataset


def _check_deflated(path: Path, file: Any, start: bytes) -> None:
    """Refuse a deflated DICOM that unpacks to more than is read, before pydicom unpacks all of it.

    Args:
        path: The file, for the message.
        file: The file, open.
        start: Its first bytes, which hold the length of the file meta information.
    """
    group = start.find(b"\x02\x00\x00\x00UL\x04\x00", DICM_OFFSET)
    if group < 0:
        raise ManifestError(
            f"{path} is deflated and does not say where its data set begins; export it uncompressed"
        )
    begins = group + 12 + int.from_bytes(start[group + 8 : group + 12], "little")
    file.seek(begins)
    unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while (packed := unpacker.unconsumed_tail or file.read(2**16)) and not unpacker.eof:
        size += len(unpacker.decompress(packed, 2**20))
        if size > MAX_FILE_BYTES:
            raise ManifestError(
                f"{path} is deflated and unpacks to more than {MAX_FILE_BYTES:,} bytes; export it"
                " uncompressed, or take it out of the data set"
            )


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
        dataset = _read_dataset(path, None, stop_before_pixels=True, specific_tags=["PixelSpacing"])
        found = dataset.get("PixelSpacing") or ()
        values = [float(value) for value in found] if isinstance(found, Sequence) else []
        if len(values) != 2 or not all(0 < value <= MAX_LEVEL for value in values):
            return None
        return values[0], values[1]


def read_dicom_elements(path: Path, keywords: Sequence[str] | None = None) -> Dataset:
    """Return some elements of a DICOM's header, or all of them with the pixel data.

    Args:
        path: The file; every error message names it.
        keywords: Elements to read; None reads the whole file.

    Raises:
        ManifestError: The file is missing, damaged or not a DICOM.
    """
    with _translate_errors(path):
        if keywords is None:
            return _read_dataset(path, None)
        return _read_dataset(path, None, stop_before_pixels=True, specific_tags=list(keywords))


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


def _check_dicom_size(path: Path, dataset: Dataset, max_pixels: int) -> None:
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise ManifestError(
            f"{path} has no Rows and Columns, it is truncated or holds no picture; replace the file"
            " or take it out of the data set"
        )
    check_pixels(path, int(dataset.Rows), int(dataset.Columns), max_pixels)


def _check_picture(path: Path, dataset: Dataset, reader: ImageReader) -> None:
    _check_dicom_size(path, dataset, reader.max_pixels)
    if not dataset.get("PixelData"):
        raise ManifestError(
            f"{path} has no pixel data, it is truncated or no image; replace the file or take it"
            " out of the data set"
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    frame = None if reader.frame == "channels" else reader.frame
    if frames > 1 or frame is not None:
        check_frame(path, frames, frame)
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise ManifestError(f"{path} is colored by a palette; export it as MONOCHROME2 or RGB")


def _decode_frame(path: Path, dataset: Dataset, frame: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the stored values of one frame and its padding.

    Padding may use bits above BitsStored, which are cleared afterwards.

    Returns:
        `H x W`, or RGB `H x W x 3`; and see `_find_padding`.
    """
    _check_frame_size(path, dataset, frame)
    stored = _decode_baseline_jpeg(dataset, frame)
    if stored is None:
        _check_codec(path, dataset)
        deep_jpeg = (
            dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
            and dataset.BitsStored > 8
            and dataset.SamplesPerPixel == 1
        )
        if deep_jpeg:
            stored = _decode_deep_jpeg(dataset, frame)
        elif dataset.SamplesPerPixel == 1:
            stored = pixel_array(dataset, index=frame, correct_unused_bits=False)
        else:
            return pixel_array(dataset, index=frame), None
    padding = _find_padding(stored, dataset)
    return _clear_unused_bits(stored, dataset), padding


def _check_frame_size(path: Path, dataset: Dataset, frame: int) -> None:
    """Refuse an encoded frame of another size than Rows and Columns, before it is decoded.

    It may be as large as its own header says, whatever that of the DICOM announces.
    """
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    found = encoded_size(_encoded_frame(dataset, frame))
    expected = int(dataset.Rows), int(dataset.Columns)
    if found is not None and found != expected:
        raise ManifestError(
            f"{path} holds a picture of {found[0]} x {found[1]} pixels, and its header says"
            f" {expected[0]} x {expected[1]}; replace the file or take it out of the data set"
        )


def encoded_size(frame: bytes) -> tuple[int, int] | None:
    """Return height and width in the header of a JPEG, JPEG-LS or JPEG 2000; None for others."""
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:  # JPEG 2000: SOC, SIZ
        ends, begins = struct.unpack(">II", frame[8:16]), struct.unpack(">II", frame[16:24])
        return ends[1] - begins[1], ends[0] - begins[0]
    if frame[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = struct.unpack(">HH", frame[place + 5 : place + 9])
            return height, width
        if marker == 0xFF:  # padding
            place += 1
            continue
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None


def _clear_unused_bits(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Fill the bits above BitsStored with zeros or the sign; JPEG 2000 and JPEG-LS need none."""
    corrected = (*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes)
    unused = 8 * stored.dtype.itemsize - int(dataset.BitsStored)
    if unused <= 0 or dataset.file_meta.TransferSyntaxUID in corrected:
        return stored
    return stored << unused >> unused


def _decode_baseline_jpeg(dataset: Dataset, frame: int) -> np.ndarray | None:
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
    encoded = _encoded_frame(dataset, frame)
    if END_OF_JPEG not in encoded[-64:]:  # OpenCV would silently fill missing rows with gray
        return None
    pixels = cv2.imdecode(
        np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    )
    return (
        pixels if pixels is not None and pixels.shape == (dataset.Rows, dataset.Columns) else None
    )


def _encoded_frame(dataset: Dataset, frame: int) -> bytes:
    frames = int(dataset.get("NumberOfFrames") or 1)
    return get_frame(dataset.PixelData, frame, number_of_frames=frames)


def _decode_deep_jpeg(dataset: Dataset, frame: int) -> np.ndarray:
    """Decode a gray 12-bit JPEG Extended by GDCM, which pydicom does not hand to it.

    Raises:
        ValueError: The frame is damaged.
    """
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(_encoded_frame(dataset, frame))
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((dataset.Columns, dataset.Rows, 1))
    image.SetDataElement(element)
    gray = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gray))
    syntax = gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation)
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits, bits - 1, signed))
    # GDCM returns char* as str
    values = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), "<u2")
    if values.size != dataset.Rows * dataset.Columns:
        raise ValueError("its JPEG cannot be decoded")
    return values.view("<i2" if signed else "<u2").reshape(dataset.Rows, dataset.Columns)


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
        and "gdcm" not in decoder.available_plugins
    )
    if not decoder.is_available or eight_bits_alone:
        raise ManifestError(
            f"{path} is compressed as {syntax.name}, whose codec is not installed; pip install"
            f" {packages}, or export it uncompressed"
        )
