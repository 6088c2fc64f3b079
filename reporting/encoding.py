"""Pack numbers and maps as base64 of little-endian bytes, which the page's script unpacks."""

import base64
import json
import zlib
from typing import Any

import numpy as np

UNDEFINED = 2**16 - 1  # means NaN
SCALE = 10_000  # four decimals


def encode_uint16(values: np.ndarray) -> str:
    """Pack whole numbers from 0 to 65535, two bytes each."""
    return _base64(np.asarray(values).astype("<u2").tobytes())


def encode_uint8(values: np.ndarray) -> str:
    """Pack whole numbers from 0 to 255, one byte each."""
    return _base64(np.asarray(values, np.uint8).tobytes())


def encode_scores(values: np.ndarray) -> str | float | None:
    """Pack numbers from 0 to 6, rounded to four decimals as the page prints them.

    If all are equal, return that number alone, None for NaN.

    Raises:
        ValueError: The numbers differ, and one is out of range.
    """
    values = np.asarray(values, np.float64)
    if (np.isnan(values) == np.isnan(values[0])).all() and (
        np.isnan(values[0]) or (values == values[0]).all()
    ):
        return None if np.isnan(values[0]) else float(values[0])
    if np.nanmin(values) < 0 or np.nanmax(values) > 6:
        raise ValueError(
            "a score that moves with the threshold is not from 0 to 6; pack it with more bytes"
        )
    return encode_uint16(
        np.array(
            [
                UNDEFINED if np.isnan(value) else int(f"{value:.4f}".replace(".", ""))
                for value in values.tolist()
            ]
        )
    )


def encode_mask(logit_bytes: np.ndarray, truth: np.ndarray) -> str:
    """Pack a byte map `h x w` and its true mask without loss.

    The differences within each row and then the mask's bits are deflated together.
    """
    differences = np.diff(logit_bytes, axis=1, prepend=np.uint8(0))
    return _base64(zlib.compress(differences.tobytes() + np.packbits(truth > 0).tobytes(), 9))


def as_json(found: dict[str, Any]) -> str:
    """Return JSON that is safe in a script element: no data can end the element."""
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace(
        "<", "\\u003c"
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
