"""Tests of the brightest-blob baseline: positions, ranking by brightness and canvas invariance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.errors import UserError
from datamodules.loading.letterbox import ContentBox, Letterbox
from evaluation.localization import Detections
from weak_supervision.baselines import BrightestBlobBaseline
from weak_supervision.boxes import PeakBoxes

BLOB = BrightestBlobBaseline(
    sigma=2, boxes=PeakBoxes(width=12, height=16, per_image=3, at_least=0, min_distance=4)
)
SPOTS = [(20, 10, 120), (60, 40, 250), (100, 20, 90), (20, 50, 200)]


def blobs(*spots, height=120, width=60):
    """Gaussian blobs of (row, column, brightness) and a spread of 3 pixels, uint8."""
    rows, columns = np.mgrid[:height, :width]
    return (
        sum(b * np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 18) for r, c, b in spots)
        .round()
        .astype(np.uint8)
    )


def test_blobs_come_in_the_order_of_their_brightness_and_no_more_than_asked():
    found = BLOB(blobs(*SPOTS))
    assert np.allclose(found.peaks, [[40.5, 60.5], [50.5, 20.5], [10.5, 20.5]])
    # a Gaussian smoothed by another one: height times the share of its area
    assert found.heights == pytest.approx(np.array([250, 200, 120]) / 255 * 9 / (9 + 4), rel=0.02)
    assert np.allclose(found.boxes[0], [34.5, 52.5, 46.5, 68.5])


def test_beside_a_hot_bladder_the_rest_is_still_said_unless_a_least_height_is_asked():
    image = blobs((20, 20, 40), (80, 30, 250))
    assert (
        len(BLOB(image)) == 2
        and len(BrightestBlobBaseline(2, PeakBoxes(width=12, height=16, at_least=0.5))(image)) == 1
    )


def test_scores_do_not_depend_on_the_depth_of_the_file_but_on_the_picture_s_brightness():
    image = blobs((60, 30, 200))
    eight, sixteen, dim = BLOB(image), BLOB(image.astype(np.uint16) * 257), BLOB(image // 2)
    assert eight.heights == pytest.approx(sixteen.heights, rel=1e-5) and dim.heights[
        0
    ] == pytest.approx(eight.heights[0] / 2, rel=0.05)


def test_a_spot_of_one_pixel_loses_to_a_broad_one():
    image = blobs((60, 30, 150))
    image[20, 20] = 255
    assert BLOB(image).peaks[0].tolist() == [30.5, 60.5]


@pytest.mark.parametrize(
    "even", [np.zeros((30, 20), np.uint8), np.full((30, 20), 200, np.uint8), np.full((30, 20), 0.3)]
)
def test_an_even_picture_says_nothing(even):
    canvas = np.zeros((30, 40), even.dtype)
    canvas[:, 10:30] = even
    for found in (BLOB(even), BLOB(canvas, ContentBox(0, 10, 30, 20))):
        assert len(found) == 0
        said = Detections.from_proposals(found, Letterbox(30, 20, (30, 40)))
        assert said.peak is None and said.boxes.shape == (0, 4)


@given(st.integers(0, 30), st.integers(0, 30))
def test_a_canvas_changes_nothing_and_its_padding_no_score(top, left):
    image = blobs(*SPOTS, (119, 0, 230))
    canvas = np.full((150, 90), 255, np.uint8)
    canvas[top : top + 120, left : left + 60] = image
    plain, placed = BLOB(image), BLOB(canvas, ContentBox(top, left, 120, 60))
    assert np.allclose(
        placed.boxes, plain.boxes + np.array([left, top, left, top])
    ) and np.allclose(placed.heights, plain.heights)


def test_what_lies_on_a_canvas_is_said_in_the_picture_s_own_pixels():
    letterbox = Letterbox(120, 60, (240, 200))  # twice as large, 40 pixels from the left
    found = BLOB(letterbox.image(blobs((30, 20, 200))[..., None])[..., 0], letterbox.content)
    said = Detections.from_proposals(found, letterbox)
    assert np.allclose(said.peak, (20.5, 30.5), atol=0.5) and np.allclose(
        said.boxes[0], said.peak * 2 + np.array([-3, -4, 3, 4])
    )
    assert said.scores.tolist() == found.heights.tolist()


def test_what_it_cannot_use_is_refused():
    with pytest.raises(ValueError, match="give one gray image"):
        BLOB(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="sigma=0 is not allowed; it must be a number above 0"):
        BrightestBlobBaseline(0)
