"""Run-length encoded masks: 0/1 arrays to pycocotools' compressed strings and back, and the SIIM-ACR competition's texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

Rle = dict[str, Any]  # {"size": [height, width], "counts": str}, compressed run lengths, column-major
EMPTY = "-1"  # the SIIM-ACR text of an image without a mask


def encode(mask: np.ndarray) -> list[Rle | None]:
    """0/1 `H x W x classes` to one compressed RLE per class."""
    return [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))]


def decode(rles: Sequence[Rle | None], height: int, width: int) -> np.ndarray:
    """One RLE or None per class to 0/1 `height x width x classes`."""
    mask = np.zeros((height, width, len(rles)), np.uint8)
    for channel, rle in enumerate(rles):
        if rle is not None:
            mask[..., channel] = coco_mask.decode(rle)
    return mask


def to_siim(mask: np.ndarray, relative: bool = True) -> str:
    """0/1 `H x W` to the text of the SIIM-ACR pneumothorax competition.

    Args:
        mask: Anything but 0 belongs to the mask.
        relative: Pairs "gap length", the gap in pixels since the end of the previous run, as in stage_2_train.csv;
            else "start length", the start in pixels from the image's first. Both 0-based and column-major.

    Returns:
        The pairs, separated by blanks; "-1" where the mask is empty.
    """
    return _text(np.flatnonzero(np.diff(np.ravel(mask, order="F") != 0, prepend=False, append=False)), relative)


def from_siim(rows: Sequence[str], height: int, width: int, relative: bool = True) -> Rle | None:
    """The SIIM-ACR texts of one image as one compressed RLE, their union where they overlap.

    Args:
        rows: As `to_siim` writes them; "-1" and "" are empty.
        height: Of the image in pixels.
        width: Of the image in pixels.
        relative: Whether a pair is "gap length" or "start length".

    Returns:
        None where all rows are empty.

    Raises:
        ValueError: an odd number of values, not whole numbers, a length below 1, or a run beyond the image; the message
            is the reason alone, the caller knows file and image.
    """
    texts = [row for row in rows if row.strip() not in ("", EMPTY)]
    if not texts:
        return None
    runs = np.concatenate([_runs(text, height, width, relative) for text in texts])
    starts, ends = runs[np.argsort(runs[:, 0], kind="stable")].T
    reach = np.maximum.accumulate(ends)  # the end of everything up to here: an earlier run may hold a later one
    first = np.append(True, starts[1:] > reach[:-1])
    starts, ends = starts[first], reach[np.append(first[1:], True)]
    edges = np.column_stack([starts, ends]).ravel()
    counts = np.diff(edges, prepend=0, append=height * width)
    counts = counts[: len(edges) + int(counts[-1] > 0)]  # as pycocotools: no empty run at the end
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}


def as_siim(rle: Rle | None, relative: bool = True) -> str:
    """A compressed RLE as SIIM-ACR text, see `to_siim`; None is "-1"."""
    return EMPTY if rle is None else to_siim(decode([rle], *rle["size"])[..., 0], relative)


def _text(edges: np.ndarray, relative: bool) -> str:
    """Starts and ends of the runs, one after the other, as pairs."""
    lengths = np.diff(edges, prepend=0)
    pairs = np.column_stack([(lengths if relative else edges)[::2], lengths[1::2]])
    return " ".join(map(str, pairs.ravel().tolist())) or EMPTY


def _runs(text: str, height: int, width: int, relative: bool) -> np.ndarray:
    """One text as `runs x 2` starts and ends in pixels, column-major."""
    try:
        values = np.array([int(value) for value in text.split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"the RLE '{_short(text)}' holds something else than whole numbers") from error
    if len(values) % 2:
        raise ValueError(f"the RLE '{_short(text)}' has an odd number of values ({len(values)}), so they are no pairs")
    firsts, lengths = values[::2], values[1::2]
    if firsts.min() < 0 or lengths.min() < 1:
        raise ValueError(f"the RLE '{_short(text)}' has a negative {'gap' if relative else 'start'} or a length below 1")
    pixels = height * width
    if values.max() > pixels:
        raise ValueError(f"the RLE '{_short(text)}' has a run beyond the {pixels} pixels of a {height} x {width} image")
    ends = np.cumsum(values)[1::2] if relative else firsts + lengths
    if ends.max() > pixels:
        raise ValueError(f"the RLE '{_short(text)}' reaches pixel {ends.max()} of a {height} x {width} image, which has {pixels}")
    return np.column_stack([ends - lengths, ends])


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
