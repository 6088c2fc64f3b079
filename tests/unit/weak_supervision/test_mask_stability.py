"""Tests of jittered boxes, which depend on image and box alone, and of mask stability."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weak_supervision.quality import jitter_boxes, mask_iou, segment_with_jitter
from weak_supervision.segmenters.base import Masks, box_to_slices

BOXES = np.array([[10.0, 20, 30, 60], [0, 0, 8, 8], [10, 20, 30, 60.5]])


class Filled:
    """Masks the whole box; counts its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, image, boxes, points):
        self.calls.append((boxes, points))
        found = Masks(
            np.zeros((len(boxes), *image.shape), bool), np.arange(len(boxes), dtype=np.float32)
        )
        for mask, box in zip(found.masks, boxes, strict=True):
            mask[box_to_slices(box, image.shape)] = True
        return found


@given(
    st.lists(
        st.tuples(st.floats(0, 70), st.floats(0, 70), st.floats(1, 40), st.floats(1, 40)),
        min_size=1,
        max_size=4,
    ),
    st.text(max_size=8),
    st.integers(0, 5),
    st.floats(0, 0.49),
)
def test_moves_repeat_stay_small_and_in_the_image_and_do_not_depend_on_other_boxes(
    corners, id, number, share
):
    boxes = np.array([[x, y, min(80, x + w), min(90, y + h)] for x, y, w, h in corners])
    moved = jitter_boxes(boxes, (90, 80), id, number, share, seed=3)
    assert moved.shape == (len(boxes), number, 4)
    assert (moved == jitter_boxes(boxes, (90, 80), id, number, share, seed=3)).all()
    for i in range(len(boxes)):
        assert (
            jitter_boxes(boxes[i : i + 1], (90, 80), id, number, share, seed=3)[0] == moved[i]
        ).all()
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)[:, None]
    assert (np.abs(moved - boxes[:, None]) <= share * sides + 1e-9).all()
    assert (
        (moved >= 0).all()
        and (moved <= [80, 90, 80, 90]).all()
        and (moved[..., :2] < moved[..., 2:]).all()
    )


def test_other_images_boxes_and_seeds_move_otherwise():
    base = jitter_boxes(BOXES, (100, 100), "wholeBodyANT/1.jpg", 4, 0.1)
    assert len(np.unique(base[0] - BOXES[0], axis=0)) == 4
    assert not np.isclose(
        base[0] - BOXES[0], base[2] - BOXES[2]
    ).any()  # half a pixel is another box
    for other in (
        jitter_boxes(BOXES, (100, 100), "wholeBodyPOST/1.jpg", 4, 0.1),
        jitter_boxes(BOXES, (100, 100), "wholeBodyANT/1.jpg", 4, 0.1, seed=1),
    ):
        assert not np.isclose(base[0], other[0]).any()


def test_the_edges_move_evenly_over_the_whole_range():
    moved = jitter_boxes(np.array([[100.0, 100, 200, 300]]), (400, 400), "a", 4000, 0.1)[0] - [
        100,
        100,
        200,
        300,
    ]
    share = moved / [100, 200, 100, 200]
    np.testing.assert_allclose(share.mean(0), 0, atol=0.005)
    np.testing.assert_allclose(share.std(0), 0.2 / np.sqrt(12), rtol=0.03)
    assert np.abs(np.corrcoef(share.T) - np.eye(4)).max() < 0.06  # each edge by itself


def test_one_call_masks_boxes_and_moved_boxes_and_compares_them():
    boxes = np.array([[0.0, 0, 10, 10], [10, 10, 20, 30]])
    points = np.array([[5.0, 5], [15, 20]])
    moved = np.array([[[0, 0, 10, 5], [5, 0, 15, 10]], [[10, 10, 20, 30], [30, 30, 40, 40]]], float)
    segmenter = Filled()
    found, stable = segment_with_jitter(
        segmenter, np.zeros((40, 40), np.uint8), boxes, points, moved
    )
    ((asked, peaks),) = segmenter.calls
    assert asked.tolist() == [*boxes.tolist(), *moved.reshape(-1, 4).tolist()]
    assert peaks.tolist() == [points[i].tolist() for i in (0, 1, 0, 0, 1, 1)]
    assert found.masks.sum((1, 2)).tolist() == [100, 200] and found.scores.tolist() == [0, 1]
    assert stable == pytest.approx([(50 / 100 + 50 / 150) / 2, (1 + 0) / 2])


def test_without_moves_nothing_is_known_of_stability():
    segmenter = Filled()
    found, stable = segment_with_jitter(
        segmenter, np.zeros((40, 40), np.uint8), BOXES[:2], np.zeros((2, 2)), np.zeros((2, 0, 4))
    )
    assert len(found) == 2 and np.isnan(stable).all() and len(segmenter.calls) == 1
    found, stable = segment_with_jitter(
        segmenter,
        np.zeros((40, 40), np.uint8),
        np.zeros((0, 4)),
        np.zeros((0, 2)),
        np.zeros((0, 3, 4)),
    )
    assert found.masks.shape == (0, 40, 40) and stable.shape == (0,)


def test_two_empty_masks_do_not_agree():
    empty, full = np.zeros((2, 2), bool), np.ones((2, 2), bool)
    assert mask_iou(empty, empty) == 0 and mask_iou(empty, full) == 0 and mask_iou(full, full) == 1
