"""Tests of boxes around peaks: number, size, borders and refused settings."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from datamodules.errors import UserError
from datamodules.loading.letterbox import ContentBox
from weak_supervision.boxes import PeakBoxes, shift_boxes_inside
from weak_supervision.cam import upsample

HEIGHT, WIDTH = 256, 160
CONTENT = ContentBox(8, 24, 240, 112)
LOW, HIGH = np.array([24, 8]), np.array([136, 248])
PLACES = st.tuples(st.floats(24.5, 135.5), st.floats(8.5, 247.5))


def blobs(places, sigma=5.0, heights=None) -> np.ndarray:
    """The maximum of Gaussians about (x, y)."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    each = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)) for x, y in places]
    return np.max(
        [high * blob for high, blob in zip(heights or [1.0] * len(each), each, strict=True)], axis=0
    ).astype(np.float32)


def apart(places, distance) -> bool:
    return all(
        max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= distance
        for i, a in enumerate(places)
        for b in places[:i]
    )


@st.composite
def separated(draw) -> list[tuple[float, float]]:
    """Draw one to four places that are at least 72 pixels apart.

    Boxes of 48 pixels, shifted by up to 24 at a border, then do not meet.
    """
    number = draw(st.integers(1, 4))
    steps = sorted(
        draw(st.lists(st.floats(0, 239 - 72 * (number - 1)), min_size=number, max_size=number))
    )
    return [(draw(st.floats(24.5, 135.5)), 8.5 + 72 * i + step) for i, step in enumerate(steps)]


@given(separated(), st.sampled_from(["fixed", "adaptive"]))
@example([(24.5, 8.5), (135.5, 8.5), (24.5, 247.5), (135.5, 247.5)], "fixed")
@example([(80.0, 10.0), (80.0, 86.0), (80.0, 162.0), (80.0, 238.0)], "adaptive")
def test_every_separated_blob_is_found_once(places, size):
    finder = PeakBoxes(size=size, width=40, height=48, smallest=12, largest=48)
    found = finder(blobs(places), CONTENT)
    assert len(found) == len(places) == len(found.peaks) == len(found.heights)
    distances = np.abs(found.peaks[:, None] - np.array(places)).max(2)
    assert sorted(distances.argmin(1)) == list(range(len(places))) and distances.min(1).max() <= 1
    for box, peak in zip(found.boxes, found.peaks, strict=True):
        assert (
            (box[:2] <= peak).all()
            and (peak <= box[2:]).all()
            and (box[:2] >= LOW).all()
            and (box[2:] <= HIGH).all()
        )
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    assert (
        np.allclose(sides, [40, 48])
        if size == "fixed"
        else (sides >= 12).all() and (sides <= 13).all()
    )  # half height: 2 x 1.18 sigma
    assert (np.diff(found.heights) <= 0).all() and (found.heights > 0.95).all()


@given(
    st.lists(st.tuples(PLACES, st.floats(0.1, 1)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.sampled_from(["fixed", "adaptive"]),
)
def test_boxes_keep_to_their_number_distance_height_and_overlap(blobs_of, number, size):
    finder = PeakBoxes(size=size, per_image=number, at_least=0.3, min_distance=10, iou=0.2)
    found = finder(
        blobs([place for place, _ in blobs_of], heights=[high for _, high in blobs_of]), CONTENT
    )
    assert (
        1 <= len(found) <= number
        and apart(found.peaks.tolist(), 10)
        and (found.heights >= 0.3 * found.heights[0]).all()
    )
    overlap = box_iou(*[torch.from_numpy(found.boxes)] * 2).numpy()
    assert np.allclose(overlap.diagonal(), 1) and (overlap - np.eye(len(found)) <= 0.2 + 1e-9).all()


def test_border_boxes_are_shifted_and_too_large_ones_cut():
    heat = blobs([(25.0, 247.0)])
    assert PeakBoxes()(heat, CONTENT).boxes.tolist() == [[24, 200, 72, 248]]
    assert PeakBoxes(width=200, height=20)(heat, CONTENT).boxes.tolist() == [[24, 228, 136, 248]]
    shifted = shift_boxes_inside(
        np.array([[-5, 2, 5, 4], [8, -9, 12, 30], [3, 3, 4, 4]], float),
        np.array([0, 0, 10, 10], float),
    )
    assert shifted.tolist() == [[0, 2, 10, 4], [6, 0, 10, 10], [3, 3, 4, 4]]


def test_an_adaptive_box_encloses_its_region_and_keeps_its_bounds():
    heat = np.zeros((HEIGHT, WIDTH), np.float32)
    heat[100:103, 40:130] = np.linspace(0.6, 1, 90)
    heat[101, 60] = 1.5
    (box, *_), (peak, *_) = (
        getattr(PeakBoxes(size="adaptive", share=0.4, smallest=24)(heat, CONTENT), name)
        for name in ("boxes", "peaks")
    )
    assert box.tolist() == [40, 89.5, 130, 113.5] and peak.tolist() == [
        60.5,
        101.5,
    ]  # 3 rows grow to 24 about their middle
    cut = PeakBoxes(size="adaptive", share=0.4, smallest=2, largest=30)(heat, CONTENT)
    assert cut.boxes[0].tolist() == [45.5, 100, 75.5, 103]  # about the peak
    narrow = PeakBoxes(size="adaptive", share=0.4, smallest=2, largest=60)(heat, CONTENT)
    assert narrow.boxes[0].tolist() == [40, 100, 100, 103]  # about the peak, but within the region
    alone = PeakBoxes(size="adaptive", share=0.9, smallest=2)(heat, CONTENT)
    assert alone.boxes[0].tolist() == [59.5, 100.5, 61.5, 102.5]  # one pixel grows to 2 x 2


def test_a_cell_of_a_coarse_map_is_one_peak_at_its_center():
    cells = np.zeros((1, 8, 5), np.float32)
    cells[0, 3, 2], cells[0, 6, 3] = 1, 0.8
    found = PeakBoxes()(upsample(cells, (HEIGHT, WIDTH))[0], ContentBox(0, 0, HEIGHT, WIDTH))
    assert found.peaks.tolist() == [[80, 112], [112, 208]] and found.boxes[0].tolist() == [
        56,
        88,
        104,
        136,
    ]


@pytest.mark.parametrize("size", ["fixed", "adaptive"])
def test_no_heat_gives_no_boxes(size):
    found = PeakBoxes(size=size)(np.zeros((HEIGHT, WIDTH), np.float32), CONTENT)
    assert (
        len(found) == 0
        and found.boxes.shape == (0, 4)
        and found.peaks.shape == (0, 2)
        and found.heights.shape == (0,)
    )


@pytest.mark.parametrize(
    ("words", "wrong", "mend"),
    [
        (
            {"size": "fixd"},
            "size=fixd is not allowed",
            "it must be fixed or adaptive (did you mean fixed?)",
        ),
        ({"width": 0}, "width=0 is not allowed", "it must be a number of 1 or more"),
        ({"smallest": 50, "largest": 40}, "largest=40 is below smallest=50", "raise it"),
        ({"per_image": 2.5}, "per_image=2.5 is not allowed", "a whole number of 1 or more"),
        ({"iou": 1.5}, "iou=1.5 is not allowed", "a number from 0 to 1"),
        (
            {"share": "half"},
            "share=half is not allowed",
            "a number from 0 to 1",
        ),
        (
            {"min_distance": float("nan")},
            "min_distance=nan is not allowed",
            "a number of 0 or more",
        ),
    ],
)
def test_wrong_numbers_are_refused_with_a_mend(words, wrong, mend):
    with pytest.raises(UserError) as refusal:
        PeakBoxes(**words)
    assert wrong in str(refusal.value) and mend in str(refusal.value)
