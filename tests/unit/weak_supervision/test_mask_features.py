"""Tests of every mask measure against hand-computed values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from weak_supervision.quality import mask_features

BOX, POINT = np.array([2.0, 2, 8, 6]), np.array([5.0, 4.0])


def drawn(text: str) -> np.ndarray:
    return np.array([[cell == "x" for cell in line] for line in text.split()])


MASK = drawn("""
    ..........
    ..........
    ..xx......
    ..xx......
    ....x..x..
    ..........
    ..........
    ..........
    """)


def test_area_components_and_the_largest_of_them():
    found = mask_features(MASK, BOX, POINT, np.zeros(MASK.shape))
    assert (
        found["area"] == 6 / 80 and found["components"] == 2 and found["largest"] == 5 / 6
    )  # the corner of (4, 4) touches the square


@pytest.mark.parametrize(
    ("point", "pixels"),
    [
        ((2.5, 2.5), 0),
        ((4.0, 3.0), 0),
        ((4.6, 3.0), 0.6),
        ((7.5, 7.0), 2),
        ((0.0, 0.0), 8**0.5),
        ((5.0, 4.5), 0),
        ((9.0, 1.0), 10**0.5),
    ],
)
def test_the_distance_is_to_the_nearest_edge_of_a_pixel_in_longer_sides(point, pixels):
    assert mask_features(MASK, BOX, np.array(point), np.zeros(MASK.shape))[
        "distance"
    ] == pytest.approx(pixels / 6)


def test_heat_within_and_agreement_with_the_rest_of_the_box():
    heat = np.full(MASK.shape, 9.0)  # outside the box it must not count
    heat[2:6, 2:8] = 0.1
    heat[MASK] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.1]
    found = mask_features(MASK, BOX, POINT, heat)
    assert found["heat"] == pytest.approx(0.6) and found["agreement"] == pytest.approx(0.6 - 0.1)
    cold = np.where(MASK, 0.0, 0.5)
    assert mask_features(MASK, BOX, POINT, cold)["agreement"] == -0.5


def test_a_mask_that_fills_its_box_has_no_rest():
    full = np.zeros((8, 10), bool)
    full[2:6, 2:8] = True
    assert mask_features(full, BOX, POINT, np.full((8, 10), 0.4))["agreement"] == pytest.approx(0.4)


def test_an_empty_mask():
    found = mask_features(np.zeros((8, 10), bool), BOX, POINT, np.ones((8, 10)))
    assert found["area"] == found["components"] == 0 and all(
        np.isnan(found[name]) for name in ("largest", "distance", "heat", "agreement")
    )


@given(arrays(bool, (7, 9)), st.floats(0, 9), st.floats(0, 7))
def test_pieces_and_distance_against_another_way(mask, x, y):
    if not mask.any():
        return
    found = mask_features(mask, np.array([0.0, 0, 9, 7]), np.array([x, y]), np.zeros(mask.shape))
    pieces = label(mask, connectivity=2)
    assert found["components"] == pieces.max()
    assert found["largest"] == pytest.approx(
        max((pieces == i).sum() for i in range(1, pieces.max() + 1)) / mask.sum()
    )
    nearest = min(
        np.hypot(x - np.clip(x, c, c + 1), y - np.clip(y, r, r + 1)) for r, c in np.argwhere(mask)
    )
    assert found["distance"] == pytest.approx(nearest / 9, abs=1e-12)
