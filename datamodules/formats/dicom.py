"""DICOM files: one frame as the grey picture that a viewer would show.

Only the tags that this needs are read.
"""

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

from datamodules.formats.grey_levels import InvalidDisplayLevels, to_display_uint8
from datamodules.refusal import LARGEST_IMAGE, ContentError, ManifestError, UserError

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
LEVELS = [
    *("PhotometricInterpretation", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
]
END_OF_JPEG = b"\xff\xd9"
warnings.filterwarnings(
    "ignore", module=r"pydicom\b"
)  # once, not per file: about encodings a user cannot repair, and filters are shared by threads


def read_dicom(path: Path, data: bytes | None = None) -> np.ndarray:
    """Decode a DICOM of one frame as a viewer shows it; colour becomes grey.

    Args:
        path: The file; named in every error.
        data: The file's bytes where they were read already.

    Returns:
        uint8 `H x W`, bright where it is bright on a MONOCHROME2 display; see `displayed`.

    Raises:
        ManifestError: not a DICOM, no pixel data, truncated, several frames, larger than
            LARGEST_IMAGE, or compressed by a codec that is not installed.
        ContentError: a window or rescaling that shows no picture, see `refuse_unusable_levels`.
    """
    with _name_file(path):
        dataset = dcmread(
            path if data is None else io.BytesIO(data),
            specific_tags=[*SIZE_TAGS, *SAMPLE_TAGS, *LEVELS],
        )
        _check_single_frame(path, dataset)
        stored = _baseline(dataset)
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


def dicom_size(path: Path) -> tuple[int, int]:
    """Return height and width in pixels from the file's header, without decoding.

    Raises:
        ManifestError: not a DICOM, or one without a picture.
    """
    with _name_file(path):
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=SIZE_TAGS)
        _check_size(path, dataset)
        return int(dataset.Rows), int(dataset.Columns)


@contextmanager
def _name_file(path: Path) -> Iterator[None]:
    """Turn any error in the block into a refusal that names the file."""
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


def _check_size(path: Path, dataset: Dataset) -> None:
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise ManifestError(
            f"{path} has no Rows and Columns, it is truncated or holds no picture; replace the file"
            " or take it out of the data set"
        )
    if dataset.Rows * dataset.Columns > LARGEST_IMAGE:
        raise ManifestError(
            f"{path} claims to be larger than the {LARGEST_IMAGE:,} pixels that are read; replace"
            " or remove it"
        )


def _check_single_frame(path: Path, dataset: Dataset) -> None:
    _check_size(path, dataset)
    if not dataset.get("PixelData"):
        raise ManifestError(
            f"{path} has no pixel data, it is truncated or no image; replace the file or take it"
            " out of the data set"
        )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ManifestError(
            f"{path} holds {dataset.NumberOfFrames} frames, one is read; export every frame as its"
            " own file"
        )
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise ManifestError(f"{path} is coloured by a palette; export it as MONOCHROME2 or RGB")


def _baseline(dataset: Dataset) -> np.ndarray | None:
    """Decode a grey 8-bit JPEG with OpenCV, which lets other threads run.

    Returns:
        None for anything else, and for a JPEG without an end.
    """
    if (
        dataset.file_meta.TransferSyntaxUID != JPEGBaseline8Bit
        or dataset.SamplesPerPixel != 1
        or dataset.BitsAllocated != 8
    ):
        return None
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if (
        END_OF_JPEG not in frame[-64:]
    ):  # OpenCV would fill the missing rows with grey and say nothing
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
