"""Run-length encoded masks: the compressed strings of pycocotools and the texts of SIIM-ACR."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from datamodules.errors import MAX_IMAGE_PIXELS

Rle = dict[
    str, Any
]  # {"size": [height, width], "counts": str}, compressed run lengths, column-major
EMPTY_TEXT = "-1"  # the SIIM-ACR text of an image without a mask
FIRST_CHARACTER, LAST_CHARACTER = (
    48,
    111,
)  # "0" to "o": a compressed string holds 6 bits a character, counted from "0"
CONTINUATION_BIT, SIGN_BIT, BITS_PER_CHARACTER, MAX_CHARACTERS = (
    0x20,
    0x10,
    5,
    6,
)  # 6 characters hold 30 bits with the sign, more than the largest image needs


def encode_rle(mask: np.ndarray) -> list[Rle | None]:
    """Encode 0/1 `H x W x classes` as one compressed RLE per class."""
    return [
        {"size": rle["size"], "counts": rle["counts"].decode()}
        for rle in coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    ]


def decode_rle(rles: Sequence[Rle | None], height: int, width: int) -> np.ndarray:
    """Decode one RLE or None per class to 0/1 `height x width x classes`.

    Raises:
        ValueError: An RLE does not describe exactly `height x width` pixels; see `validate_rle`.
    """
    checked = [
        None if rle is None else validate_rle(rle, height, width) for rle in rles
    ]  # checked before any memory is allocated
    mask = np.zeros((height, width, len(rles)), np.uint8)
    for channel, rle in enumerate(checked):
        if rle is not None:
            mask[..., channel] = coco_mask.decode(rle)
    return mask


def validate_rle(
    rle: Any,
    height: int | None = None,
    width: int | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> Rle:
    """Check an untrusted RLE, so that pycocotools never reads or writes beyond an image.

    Args:
        rle: `{"size": [height, width], "counts": ...}`; `counts` is a list of run lengths, or
            pycocotools' compressed string.
        height: The image's height in pixels, which `size` must match; None if unknown.
        width: The image's width in pixels; None if unknown.
        max_pixels: Largest size that is accepted, in pixels, where the image's is unknown.

    Returns:
        The same RLE with compressed counts; compressed counts are kept unchanged.

    Raises:
        ValueError: It is not a dict; the size is not two whole numbers from 1 on, is above
            `max_pixels` or is not the image's; or the counts are missing, not whole numbers,
            negative, or do not add up to height x width. The message is only the reason.
    """
    if not isinstance(rle, dict):
        raise ValueError(
            f"an RLE must be {{size: [height, width], counts: ...}}, not {_excerpt(rle)}"
        )
    # the size of a decoded image is below the limit already
    limit = max_pixels if height is None or width is None else max(max_pixels, height * width)
    rows, columns = _validate_size(rle.get("size"), limit)
    if None not in (height, width) and (rows, columns) != (height, width):
        raise ValueError(
            f"the RLE has the size {rows} x {columns}, and the image has {height} x {width} pixels"
        )
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        _check_run_sum(_parse_compressed_runs(counts, rows * columns), rows, columns)
        return {
            "size": [rows, columns],
            "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
        }
    if not isinstance(counts, list | tuple):
        raise ValueError(
            "the counts of the RLE are missing, or neither a list nor a string"
            f" ({_excerpt(counts)})"
        )
    runs = _parse_run_list(counts, rows * columns)
    _check_run_sum(runs, rows, columns)
    compressed = coco_mask.frPyObjects(
        {"size": [rows, columns], "counts": runs.tolist()}, rows, columns
    )["counts"]
    return {"size": [rows, columns], "counts": compressed.decode()}


def _validate_size(size: Any, max_pixels: int) -> tuple[int, int]:
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(map(_is_integer, size))
        or min(size) < 1
    ):
        raise ValueError(
            f"the size of the RLE is {_excerpt(size)}, and not two whole numbers [height, width]"
        )
    rows, columns = map(int, size)
    if rows * columns > max_pixels:
        raise ValueError(
            f"the size of the RLE is {rows} x {columns}, above the limit of"
            f" {max_pixels:,} pixels (datamodule.max_pixels)"
        )
    return rows, columns


def _parse_run_list(counts: Sequence[Any], pixels: int) -> np.ndarray:
    for value in counts:
        if not _is_integer(value):
            raise ValueError(
                f"the counts of the RLE hold {_excerpt(value)}, which is not a whole number"
            )
        if value < 0 or value > pixels:
            raise ValueError(
                f"the counts of the RLE hold {_excerpt(value)}, but a run has 0 to {pixels} pixels"
            )
    return np.array(counts, np.int64)


def _parse_compressed_runs(text: str | bytes, pixels: int) -> np.ndarray:
    """Return the run lengths of a compressed string.

    A number has 5 bits per character, the lowest first; from the fourth number on it is the
    difference from the number two places before.
    """
    try:
        data = np.frombuffer(text.encode("ascii") if isinstance(text, str) else text, np.uint8)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the compressed counts {_excerpt(text)} hold a character that no compressed RLE has"
        ) from error
    if not len(data):
        raise ValueError("the compressed counts of the RLE are empty")
    if data.min() < FIRST_CHARACTER or data.max() > LAST_CHARACTER:
        raise ValueError(
            f"the compressed counts {_excerpt(text)} hold a character that no compressed RLE has"
        )
    values = data.astype(np.int64) - FIRST_CHARACTER
    ends = np.flatnonzero(values & CONTINUATION_BIT == 0)
    if not len(ends) or ends[-1] != len(values) - 1:
        raise ValueError(
            f"the compressed counts {_excerpt(text)} are cut off in the middle of a number"
        )
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    if lengths.max() > MAX_CHARACTERS:
        raise ValueError(
            f"the compressed counts {_excerpt(text)} hold a number that is larger than any image"
            " that is read"
        )
    place = np.arange(len(values)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((values & 0x1F) << (BITS_PER_CHARACTER * place), starts)
    runs -= np.where(values[ends] & SIGN_BIT, np.int64(1) << (BITS_PER_CHARACTER * lengths), 0)
    if (
        np.abs(runs).max() <= pixels
    ):  # otherwise a run exceeds the image, and sums of such numbers might not fit in 64 bits
        runs[1::2] = np.cumsum(runs[1::2])
        runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0 or runs.max() > pixels:
        raise ValueError(
            f"the compressed counts {_excerpt(text)} hold a run that is negative or longer than the"
            f" {pixels} pixels of the image"
        )
    return runs


def _check_run_sum(runs: np.ndarray, height: int, width: int) -> None:
    if (total := int(runs.sum())) != height * width:
        raise ValueError(
            f"the runs of the RLE add up to {total} pixels, and a {height} x {width} image has"
            f" {height * width}"
        )


def _is_integer(value: Any) -> bool:
    """Return True for a whole number; 3.0 is one, True and False are not."""
    if isinstance(value, bool | np.bool_):
        return False
    return isinstance(value, numbers.Integral) or (
        isinstance(value, float) and math.isfinite(value) and value == int(value)
    )


def _excerpt(value: Any) -> str:
    return _abbreviate(repr(value))


def encode_siim(mask: np.ndarray, relative: bool = True) -> str:
    """Encode 0/1 `H x W` as text of the SIIM-ACR pneumothorax competition.

    Args:
        mask: All values but 0 belong to the mask.
        relative: True for pairs "gap length" with the gap in pixels since the end of the previous
            run, as in stage_2_train.csv; False for pairs "start length". Both are 0-based and
            column-major.

    Returns:
        The pairs, separated by blanks; "-1" if the mask is empty.
    """
    return _format_run_pairs(
        np.flatnonzero(np.diff(np.ravel(mask, order="F") != 0, prepend=False, append=False)),
        relative,
    )


def decode_siim(rows: Sequence[str], height: int, width: int, relative: bool = True) -> Rle | None:
    """Decode the SIIM-ACR texts of one image to one compressed RLE, the union of all texts.

    Args:
        rows: Texts as `encode_siim` writes them; "-1" and "" are empty.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        relative: True for pairs "gap length", False for "start length".

    Returns:
        The RLE, or None if all rows are empty.

    Raises:
        ValueError: There is an odd number of values, a value that is not a whole number, a length
            below 1, or a run beyond the image. The message is only the reason; the caller adds file
            and image.
    """
    texts = [row for row in rows if row.strip() not in ("", EMPTY_TEXT)]
    if not texts:
        return None
    runs = np.concatenate([_parse_siim_runs(text, height, width, relative) for text in texts])
    starts, ends = runs[np.argsort(runs[:, 0], kind="stable")].T
    reach = np.maximum.accumulate(
        ends
    )  # the largest end so far: an earlier run may contain a later one
    first = np.append(True, starts[1:] > reach[:-1])
    starts, ends = starts[first], reach[np.append(first[1:], True)]
    edges = np.column_stack([starts, ends]).ravel()
    counts = np.diff(edges, prepend=0, append=height * width)
    counts = counts[: len(edges) + int(counts[-1] > 0)]  # like pycocotools: no empty run at the end
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}


def union_rle(rles: Sequence[Rle]) -> Rle | None:
    """Return the union of masks of one size; None without any."""
    if not rles:
        return None
    merged = coco_mask.merge(list(rles))
    return {"size": merged["size"], "counts": merged["counts"].decode()}


def scale_rle(rle: Rle | None, height: int, width: int) -> Rle | None:
    """Scale a mask to another size; a pixel is 1 if at least half of it is covered."""
    if rle is None:
        return None
    mask = decode_rle([rle], *rle["size"])[..., 0] * np.uint8(255)
    smaller = height * width < mask.size
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    scaled = cv2.resize(mask, (width, height), interpolation=method) >= 128
    return encode_rle(scaled[..., None])[0]


def rle_to_siim(rle: Rle | None, relative: bool = True) -> str:
    """Convert a compressed RLE to SIIM-ACR text, see `encode_siim`; None becomes "-1"."""
    return (
        EMPTY_TEXT
        if rle is None
        else encode_siim(decode_rle([rle], *rle["size"])[..., 0], relative)
    )


def _format_run_pairs(edges: np.ndarray, relative: bool) -> str:
    """Format starts and ends of the runs, which alternate, as pairs."""
    lengths = np.diff(edges, prepend=0)
    pairs = np.column_stack([(lengths if relative else edges)[::2], lengths[1::2]])
    return " ".join(map(str, pairs.ravel().tolist())) or EMPTY_TEXT


def _parse_siim_runs(text: str, height: int, width: int, relative: bool) -> np.ndarray:
    """Parse one text to `runs x 2` starts and ends in pixels, column-major."""
    try:
        values = np.array([int(value) for value in text.split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"the RLE '{_abbreviate(text)}' holds a value that is not a whole number"
        ) from error
    if len(values) % 2:
        raise ValueError(
            f"the RLE '{_abbreviate(text)}' has an odd number of values ({len(values)}), so they"
            " do not form pairs"
        )
    firsts, lengths = values[::2], values[1::2]
    if firsts.min() < 0 or lengths.min() < 1:
        raise ValueError(
            f"the RLE '{_abbreviate(text)}' has a negative {'gap' if relative else 'start'} or a"
            " length below 1"
        )
    pixels = height * width
    if values.max() > pixels:
        raise ValueError(
            f"the RLE '{_abbreviate(text)}' has a run beyond the {pixels} pixels of a {height} x"
            f" {width} image"
        )
    ends = np.cumsum(values)[1::2] if relative else firsts + lengths
    if ends.max() > pixels:
        raise ValueError(
            f"the RLE '{_abbreviate(text)}' reaches pixel {ends.max()} of a {height} x {width}"
            f" image, which has {pixels}"
        )
    return np.column_stack([ends - lengths, ends])


def _abbreviate(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
