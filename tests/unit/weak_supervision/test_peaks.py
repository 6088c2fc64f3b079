"""Tests of peaks, the regional maxima of a map, against a flood fill, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datamodules.loading.letterbox import ContentBox
from weak_supervision.boxes import find_peaks, find_region_around_peak, suppress_close_peaks

SIDE = 7
WHOLE = ContentBox(0, 0, SIDE, SIDE)


def flooded(heat: np.ndarray, start: tuple[int, int], belongs) -> set[tuple[int, int]]:
    """The connected pixels around a start that belong, by search."""
    found, open_ = {start}, [start]
    while open_:
        row, column = open_.pop()
        for r in range(max(0, row - 1), min(SIDE, row + 2)):
            for c in range(max(0, column - 1), min(SIDE, column + 2)):
                if (r, c) not in found and belongs(heat[r, c]):
                    found.add((r, c))
                    open_.append((r, c))
    return found


@given(arrays(np.float32, (SIDE, SIDE), elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1])))
def test_peaks_are_the_plateaus_without_a_higher_neighbour(heat):
    expected = set()
    for start in np.ndindex(heat.shape):
        plateau = flooded(heat, start, lambda value, level=heat[start]: value == level)
        rim = {
            (r, c)
            for row, column in plateau
            for r in range(row - 1, row + 2)
            for c in range(column - 1, column + 2)
        } - plateau
        higher = any(heat[r, c] > heat[start] for r, c in rim if 0 <= r < SIDE and 0 <= c < SIDE)
        if heat[start] > 0 and not higher and len(plateau) < heat.size:
            rows, columns = zip(*plateau, strict=True)
            expected.add(
                (
                    round(np.mean(columns) + 0.5, 9),
                    round(np.mean(rows) + 0.5, 9),
                    float(heat[start]),
                )
            )
    peaks, heights = find_peaks(heat, WHOLE)
    found = [
        (round(x, 9), round(y, 9), high)
        for (x, y), high in zip(peaks.tolist(), heights.tolist(), strict=True)
    ]
    assert (
        set(found) == expected and (np.diff(heights) <= 0).all() and len(found) <= len(expected) + 1
    )


@given(
    arrays(np.float32, (SIDE, SIDE), elements=st.sampled_from([0, 0.25, 0.5, 1])),
    st.integers(0, SIDE - 1),
    st.integers(0, SIDE - 1),
)
def test_a_region_is_what_a_search_finds(heat, row, column):
    heat[row, column] = 1
    pixels = np.array(sorted(flooded(heat, (row, column), lambda value: value >= 0.5)))
    (top, left), (bottom, right) = pixels.min(0), pixels.max(0) + 1
    assert find_region_around_peak(np.array([column + 0.5, row + 0.5]), heat, 0.5).tolist() == [
        left,
        top,
        right,
        bottom,
    ]


def test_peaks_on_the_padding_and_slopes_into_it_are_none():
    heat = np.zeros((10, 20), np.float32)
    heat[4, 2:9] = np.linspace(
        1, 0.4, 7
    )  # its peak is at column 2, in the padding; its slope reaches into the picture
    heat[6, 15] = 0.5
    peaks, heights = find_peaks(heat, ContentBox(0, 5, 10, 10))
    assert len(peaks) == 0
    peaks, heights = find_peaks(heat, ContentBox(0, 5, 10, 15))
    assert peaks.tolist() == [[15.5, 6.5]] and heights.tolist() == [0.5]


@pytest.mark.parametrize("level", [0, 1])
def test_the_same_heat_everywhere_has_no_peak(level):
    peaks, heights = find_peaks(np.full((4, 6), level, np.float32), ContentBox(0, 0, 4, 6))
    assert peaks.shape == (0, 2) and heights.shape == (0,)


def test_of_peaks_that_are_close_the_first_counts():
    peaks = np.array([[10, 10], [18, 10], [25, 10], [10, 19]], float)
    assert (
        suppress_close_peaks(peaks, 9).tolist() == [0, 2, 3]
        and suppress_close_peaks(peaks, 0).tolist() == [0, 1, 2, 3]
        and suppress_close_peaks(peaks[:0], 9).tolist() == []
    )


def test_the_middle_of_a_ring_is_one_pixel():
    ring = np.zeros((5, 5), np.float32)
    ring[1:4, 1:4] = 1
    ring[2, 2] = 0
    (peak,), _ = find_peaks(ring, ContentBox(0, 0, 5, 5))
    assert peak.tolist() == [2.5, 2.5] and find_region_around_peak(peak, ring, 0.5).tolist() == [
        2,
        2,
        3,
        3,
    ]
