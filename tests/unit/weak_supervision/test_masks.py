"""Tests of merging an image's masks, the pixels of a box and refused numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weak_supervision.segmenters.base import Masks, box_to_slices, empty_masks


def test_the_union_is_of_the_kept_masks_only():
    masks = np.zeros((3, 2, 3), bool)
    masks[0, 0, 0] = masks[1, 1, 2] = masks[2, 0, 1] = True
    found = Masks(masks, np.zeros(3, np.float32))
    assert found.union([True, False, True]).tolist() == [[True, True, False], [False, False, False]]
    assert not found.union([False] * 3).any() and found.union([False] * 3).shape == (2, 3)


def test_no_boxes_have_no_masks_and_an_empty_union():
    empty = empty_masks(np.zeros((4, 5), np.uint8))
    assert (
        len(empty) == 0
        and empty.masks.shape == (0, 4, 5)
        and empty.union([]).shape == (4, 5)
        and not empty.union([]).any()
    )


@pytest.mark.parametrize(
    ("box", "margin", "rows", "columns"),
    [
        ([1, 2, 4, 5], 0, (2, 5), (1, 4)),
        (
            [1.4, 2.6, 4.4, 4.6],
            0,
            (3, 5),
            (1, 4),
        ),  # the center of column 4 is 4.5, of row 2 it is 2.5
        ([-3, -3, 2, 2], 0, (0, 2), (0, 2)),
        ([6, 2, 20, 30], 0, (2, 8), (6, 10)),
        ([4, 2, 6, 6], 0.5, (0, 8), (3, 7)),
        ([20, 20, 30, 30], 0, (8, 8), (10, 10)),
        ([5, 5, 3, 3], 0, (5, 5), (5, 5)),
    ],
)
def test_the_pixels_of_a_box(box, margin, rows, columns):
    found = box_to_slices(np.array(box, float), (8, 10), margin)
    assert [(part.start, part.stop) for part in found] == [rows, columns]


@given(st.lists(st.floats(-30, 60), min_size=4, max_size=4), st.integers(1, 40), st.integers(1, 40))
def test_a_pixel_is_in_the_box_if_its_center_is(edges, height, width):
    x1, x2, y1, y2 = *sorted(edges[:2]), *sorted(edges[2:])
    mask = np.zeros((height, width), bool)
    mask[box_to_slices(np.array([x1, y1, x2, y2]), mask.shape)] = True
    y, x = np.mgrid[:height, :width] + 0.5
    assert (mask == ((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2))).all()
