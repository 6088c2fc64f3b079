"""Display of a DICOM's stored values (DICOM PS3.3, C.7.6.3, C.11.1 and C.11.2)."""

import cv2
import numpy as np
from pydicom import Dataset

LEVEL_TAGS = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
MAX_LEVEL = float(
    np.finfo(np.float32).max
)  # of these numbers, because pixels become float32; NaN is not below it either


class InvalidDisplayLevels(ValueError):
    """A window or rescaling that shows no picture.

    The message is the reason alone, the caller knows the file.
    """


def check_display_levels(dataset: Dataset) -> None:
    """Refuse a window or rescaling that is not finite, and a window of negative width.

    A width or slope of 0 counts as absent, a negative slope inverts, and centers and intercepts may
    be negative.

    Raises:
        UnusableLevels: names the element and its value.
    """
    for keyword in LEVEL_TAGS:
        value = _first_value(dataset, keyword)
        if value is not None and not abs(value) <= MAX_LEVEL:
            raise InvalidDisplayLevels(f"{keyword}={value:g}, which is not a finite number")
    width = _first_value(dataset, "WindowWidth")
    if width is not None and width < 0:
        raise InvalidDisplayLevels(f"WindowWidth={width:g}, which is negative")


def to_display_uint8(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Convert stored values to the grey picture that a viewer shows.

    The modality LUT or rescaling comes first, then the VOI LUT or window, then the inversion of
    MONOCHROME1.

    Args:
        stored: `H x W` as decoded, or RGB `H x W x 3`.
        dataset: Its elements; of several windows or VOI LUTs the first is used.

    Returns:
        uint8 `H x W`. Without a window 8-bit values stay as they are, deeper ones are scaled by
        their own range.

    Raises:
        UnusableLevels: see `check_display_levels`; or rescaling makes pixels that are not finite.
    """
    check_display_levels(dataset)
    if stored.ndim == 3:
        stored = cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)
    elif dataset.get("VOILUTSequence"):
        stored = _apply_voi_lut(_apply_rescale(stored, dataset), dataset.VOILUTSequence[0], dataset)
    elif _first_value(dataset, "WindowWidth") and _first_value(dataset, "WindowCenter") is not None:
        stored = _apply_window(_apply_rescale(stored, dataset), dataset)
    elif not _to_float(dataset):
        stored = _apply_rescale(stored, dataset)
    pixels = stored if stored.dtype == np.uint8 else _stretch_range(stored, dataset)
    return cv2.bitwise_not(pixels) if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels


def _to_float(dataset: Dataset) -> bool:
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

    It is LINEAR as the standard writes it, or LINEAR_EXACT or SIGMOID if the file says so.
    """
    center, width = (
        float(_first_value(dataset, "WindowCenter") or 0),
        float(_first_value(dataset, "WindowWidth") or 1),
    )
    function = dataset.get("VOILUTFunction") or "LINEAR"
    distance = values.astype(np.float32) - np.float32(center)
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(-4 * distance / width))
    elif function == "LINEAR_EXACT":
        shown = distance / width + 0.5
    else:
        shown = (distance + 0.5) / max(width - 1, 1e-6) + 0.5  # a window of width 1 is a step
    return (shown.clip(0, 1) * 255).round().astype(np.uint8)


def _apply_voi_lut(values: np.ndarray, item: Dataset, dataset: Dataset) -> np.ndarray:
    """Map values through a VOI LUT, whose whole output range is shown."""
    shown = _read_lut(item, dataset).astype(np.float32) * (255 / (2 ** item.LUTDescriptor[2] - 1))
    return shown.clip(0, 255).round().astype(np.uint8)[_lut_positions(values, item)]


def _lut_positions(values: np.ndarray, item: Dataset) -> np.ndarray:
    """Return the values' indices in a LUT, clipped to its first and last entry."""
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
        and _to_float(dataset)
    ):
        return values.astype(np.uint8)
    wide = values.astype(np.float32)
    low, high = float(wide.min()), float(wide.max())
    return ((wide - low) * (255 / max(high - low, 1e-6))).round().astype(np.uint8)
