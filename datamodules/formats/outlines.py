"""Polygons, boxes and ellipses as masks: checked, clipped to the image and filled."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from datamodules.errors import ContentError, ManifestError
from datamodules.formats.file_content import shorten
from datamodules.formats.rle import Rle

CLIP_TOLERANCE = 2.0  # pixels by which a polygon may extend beyond its image; it is clipped
CLIPPED = "polygon up to 2 px outside the image: clipped"
DEGENERATE = "polygon without an area: dropped"
ELLIPSE_POINTS = 180
MAX_POLYGONS = 10_000  # of one object; more take seconds


def fill_polygons(
    polygons: Sequence[Sequence[float]], height: int, width: int, where: str
) -> tuple[Rle | None, list[str]]:
    """Fill the polygons of one object; its mask is their union.

    Args:
        polygons: Each `[x1, y1, x2, y2, ...]` in pixels; the corner of the first pixel is (0, 0).
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        where: File and annotation, for the error message.

    Returns:
        The compressed RLE, or None if no polygon has an area; and what was repaired.

    Raises:
        ManifestError: A polygon has an odd number of coordinates, one that is not a finite number,
            or a point more than CLIP_TOLERANCE pixels outside the image.
    """
    if len(polygons) > MAX_POLYGONS:
        raise ManifestError(
            f"{where} has {len(polygons):,} polygons, and an object may have {MAX_POLYGONS:,};"
            " write its mask as RLE"
        )
    filled, notes = [], []
    for polygon in polygons:
        points = _check_numbers(polygon, where)
        if len(points) < 3:
            notes.append(DEGENERATE)
            continue
        excess = float(max(-points.min(), (points - [width, height]).max()))
        if excess > CLIP_TOLERANCE:
            raise ManifestError(
                f"{where} has a polygon {format_pixels(excess)} pixels outside the {width} x"
                f" {height} image; correct or remove it"
            )
        if _is_on_a_line(points):
            notes.append(DEGENERATE)
            continue
        if excess > 0:
            notes.append(CLIPPED)
        filled.append(points.clip(0, [width, height]).ravel().tolist())
    if not filled:
        return None, notes
    rle = coco_mask.merge(coco_mask.frPyObjects(filled, height, width))
    return {"size": rle["size"], "counts": rle["counts"].decode()}, notes


def box_polygon(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """Return a box as a polygon."""
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def ellipse_polygon(
    x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0
) -> list[float]:
    """Return an ellipse with its center at (x, y), turned clockwise, as a polygon."""
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    turn = math.radians(degrees)
    along, across = radius_x * np.cos(angle), radius_y * np.sin(angle)
    xs = x + along * math.cos(turn) - across * math.sin(turn)
    ys = y + along * math.sin(turn) + across * math.cos(turn)
    return np.stack([xs, ys], 1).ravel().tolist()


def is_normalized(polygon: Sequence[float], height: int, width: int) -> bool:
    """Return True if all coordinates are fractions of width and height rather than pixels."""
    numbers = [value for value in polygon if isinstance(value, int | float)]
    return bool(numbers) and min(height, width) > 2 and 0 <= min(numbers) and max(numbers) <= 1


def scale_polygon(polygon: Sequence[float], height: int, width: int, where: str) -> list[float]:
    """Convert fractions of width and height to pixels.

    Raises:
        ContentError: A coordinate is outside 0..1.
    """
    points = _check_numbers(polygon, where)
    if points.min() < -0.01 or points.max() > 1.01:
        raise ContentError(
            f"{where} has coordinates from {points.min():g} to {points.max():g}, and"
            " datamodule.normalized=true expects fractions of width and height, from 0 to 1; set"
            " datamodule.normalized=false if they are pixels"
        )
    return (points * [width, height]).ravel().tolist()


def _check_numbers(polygon: Sequence[float], where: str) -> np.ndarray:
    """Return the points of a polygon, `N x 2` (x, y)."""
    if not isinstance(polygon, list | tuple) or len(polygon) % 2:
        raise ManifestError(
            f"{where} has a polygon that is no list of x and y in turn; correct or remove it"
        )
    if not all(map(is_finite_number, polygon)):
        raise ManifestError(
            f"{where} has a polygon with a coordinate that is not a finite number; correct or"
            " remove it"
        )
    return np.asarray(polygon, np.float64).reshape(-1, 2)


def is_finite_number(value: Any) -> bool:
    """Return True for a finite number; true is none, and neither is an integer above all floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def parse_finite(text: str | None) -> float | None:
    """Return the finite number that a text holds; None if it holds none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def format_pixels(number: float) -> str:
    """Format a distance in pixels; a very large one with its exponent."""
    return f"{number:.1f}" if abs(number) < 1e6 else f"{number:.3g}"


def check_finite_numbers(values: Any, count: int, where: str) -> list[float]:
    """Return so many finite numbers as floats.

    Raises:
        ManifestError: The values are no list of so many numbers.
    """
    usable = isinstance(values, list | tuple) and len(values) == count
    if not usable or not all(map(is_finite_number, values)):
        raise ManifestError(
            f"{where} has {shorten(repr(values), 60)} where {count} finite numbers are expected;"
            " draw it again, or remove it"
        )
    return [float(value) for value in values]


def image_side(value: Any, side: str, where: str, limit: int) -> int:
    """Return a height or width that an annotation gives its image, in whole pixels.

    Raises:
        ManifestError: It is no whole number from 1 on, or above the limit of all pixels.
    """
    if not is_finite_number(value) or value != int(value) or value < 1:
        raise ManifestError(
            f"{where} has {side}={shorten(repr(value), 40)}; write the whole number of pixels"
        )
    if value > limit:
        raise ManifestError(
            f"{where} has {side}={value:g}, above the limit of {limit:,} pixels"
            " (datamodule.max_pixels); correct it"
        )
    return int(value)


def _is_on_a_line(points: np.ndarray) -> bool:
    x, y = points.T
    area = abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
    if area > 1e-3 * max(1.0, float(np.ptp(points, 0).max())):
        return False  # the usual case, without a decomposition
    centered = points - points.mean(0)
    return bool(np.linalg.matrix_rank(centered, tol=1e-6) < 2)
