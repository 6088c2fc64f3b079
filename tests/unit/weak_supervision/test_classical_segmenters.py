"""Tests of masks made without weights, on synthetic hot spots and on flat images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from datamodules.errors import UserError
from weak_supervision.segmenters.classical import (
    GrabCutSegmenter,
    RandomWalkerSegmenter,
    compute_contrast,
    crop_box,
)

BOTH = pytest.mark.parametrize("kind", [RandomWalkerSegmenter, GrabCutSegmenter])


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))


def ellipse(shape, x, y, a, b) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    return ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1


def scan(truth: np.ndarray, uptake=60.0, bone=20.0, seed=0) -> np.ndarray:
    """A vertical bone with a lesion, blurred, counted."""
    columns = np.arange(truth.shape[1])
    mean = 5 + bone * (np.abs(columns - truth.shape[1] / 2) < 7) + uptake * truth
    counts = np.random.default_rng(seed).poisson(
        ndimage.gaussian_filter(np.broadcast_to(mean, truth.shape), 1.2)
    )
    return np.clip(2 * counts, 0, 255).astype(np.uint8)


def box_of(x, y, side=48.0) -> np.ndarray:
    return np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2]])


@BOTH
@pytest.mark.parametrize(("a", "b"), [(4, 4), (7, 5), (6, 11)])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (6, -5)])
def test_a_hot_spot_on_a_bone_is_found_though_box_and_peak_miss_its_center(kind, a, b, right, down):
    truth = ellipse((160, 100), 52, 80, a, b)
    scores = []
    for seed in range(3):
        point = np.array([[52.0 + right, 80.0 + down]])
        found = kind()(scan(truth, seed=seed), box_of(*point[0]), point)
        assert (
            found.masks.shape == (1, 160, 100)
            and found.masks.dtype == bool
            and 0 < found.scores[0] <= 1
        )
        scores.append(dice(found.masks[0], truth))
    assert np.mean(scores) > 0.75


@BOTH
def test_a_faint_spot_near_the_peak_and_not_the_hot_bone_beside_it(kind):
    truth = ellipse((120, 120), 60, 60, 5, 5)
    mean = 6 + 30.0 * truth
    mean[:, 74:90] += 90  # hotter and larger, and touches the box
    image = np.random.default_rng(1).poisson(ndimage.gaussian_filter(mean, 1.5)).astype(np.uint8)
    found = kind()(image, box_of(60, 60, 40), np.array([[58.0, 61.0]]))
    assert dice(found.masks[0], truth) > 0.7 and not found.masks[0][:, 74:].any()


@BOTH
def test_boxes_do_not_influence_each_other_and_runs_repeat(kind):
    truth = ellipse((160, 100), 52, 40, 5, 5) | ellipse((160, 100), 50, 110, 7, 6)
    image = scan(truth)
    boxes, points = (
        np.concatenate([box_of(52, 40), box_of(50, 110)]),
        np.array([[52.0, 40.0], [50.0, 110.0]]),
    )
    together = kind()(image, boxes, points)
    assert together.masks.any((1, 2)).all()
    for i in range(2):
        alone = kind()(image, boxes[i : i + 1], points[i : i + 1])
        assert (alone.masks[0] == together.masks[i]).all() and alone.scores[0] == together.scores[i]


@BOTH
@given(
    edges=st.lists(st.floats(-20, 120), min_size=4, max_size=4),
    place=st.tuples(st.floats(-20, 120), st.floats(-20, 120)),
    seed=st.integers(0, 9),
)
def test_a_mask_is_one_piece_without_holes_inside_its_box(kind, edges, place, seed):
    x1, x2, y1, y2 = *sorted(edges[:2]), *sorted(edges[2:])
    image = scan(ellipse((90, 70), 34, 40, 5, 8), seed=seed)
    found = kind(working_size=32)(image, np.array([[x1, y1, x2, y2]]), np.array([place]))
    mask = found.masks[0]
    rows, columns = np.nonzero(mask)
    assert (
        (rows + 0.5 >= y1).all()
        and (rows + 0.5 <= y2).all()
        and (columns + 0.5 >= x1).all()
        and (columns + 0.5 <= x2).all()
    )
    assert (
        ndimage.label(mask, np.ones((3, 3)))[1] <= 1
        and (ndimage.binary_fill_holes(mask) == mask).all()
    )
    assert (
        np.isfinite(found.scores).all() and (0 <= found.scores).all() and (found.scores <= 1).all()
    )


@BOTH
def test_a_margin_allows_more_than_the_box(kind):
    truth = ellipse((120, 120), 60, 60, 9, 9)
    image, box, point = scan(truth), np.array([[54.0, 54.0, 66.0, 66.0]]), np.array([[60.0, 60.0]])
    tight, free = kind()(image, box, point).masks[0], kind(margin=0.5)(image, box, point).masks[0]
    allowed = np.zeros_like(tight)
    allowed[48:72, 48:72] = True
    assert tight.sum() <= 144 and free.sum() > 180 and not (free & ~allowed).any()


@BOTH
@pytest.mark.parametrize("gray", [0, 40, 255])
def test_a_flat_image_has_no_mask(kind, gray):
    found = kind()(
        np.full((50, 40), gray, np.uint8),
        np.array([[5.0, 5, 35, 45], [0, 0, 40, 50]]),
        np.array([[20.0, 20], [20, 20]]),
    )
    assert not found.masks.any() and (found.scores == 0).all()


@BOTH
def test_boxes_outside_the_image_or_of_no_size_and_no_boxes(kind):
    image = scan(ellipse((60, 50), 25, 30, 4, 4))
    found = kind()(
        image, np.array([[60.0, 10, 80, 30], [20, 20, 20, 20], [30, 30, 10, 10]]), np.zeros((3, 2))
    )
    assert not found.masks.any() and found.scores.tolist() == [0, 0, 0]
    assert kind()(image, np.zeros((0, 4)), np.zeros((0, 2))).masks.shape == (0, 60, 50)


@BOTH
@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_tiny_boxes_and_a_box_of_the_whole_image(kind, side):
    image = np.full((side, side), 10, np.uint8)
    image[side // 2, side // 2] = 200
    found = kind(sigma=0.5)(
        image, np.array([[0.0, 0, side, side]]), np.array([[side / 2, side / 2]])
    )
    assert found.masks[0].any() == (side > 1)  # a single pixel is no brighter than itself


@BOTH
def test_a_box_that_is_a_point_holds_one_pixel(kind):
    image = scan(ellipse((60, 50), 25, 30, 4, 4))
    mask = kind()(image, np.array([[25.5, 30.5, 25.5, 30.5]]), np.array([[25.5, 30.5]])).masks[0]
    assert np.argwhere(mask).tolist() == [[30, 25]]


@BOTH
def test_a_large_box_is_shrunk_and_its_mask_is_where_the_lesion_is(kind):
    truth = ellipse((900, 700), 300, 500, 50, 40)
    image = (
        np.random.default_rng(0)
        .poisson(ndimage.gaussian_filter(40 + 70.0 * truth, 3))
        .astype(np.uint8)
    )
    found = kind()(image, box_of(310, 490, 240), np.array([[310.0, 490.0]]))
    rows, columns = np.nonzero(found.masks[0])
    assert dice(found.masks[0], truth) > 0.85
    assert (
        abs(rows.mean() + 0.5 - 500) < 3 and abs(columns.mean() + 0.5 - 300) < 3
    )  # no shift by the way there and back


def test_what_is_cut_out():
    image = np.arange(200, dtype=np.uint8).reshape(10, 20)
    part = crop_box(
        image, (slice(2, 6), slice(0, 8)), np.array([3.5, 4.5]), context=3, working_size=64
    )
    assert (
        part.window == (slice(0, 9), slice(0, 11))
        and (part.gray == image[:9, :11]).all()
        and part.scale == 1
    )
    assert (
        part.in_box.sum() == 32 and part.in_box[2:6, :8].all() and part.peak.tolist() == [3, 4]
    )  # the pixel in column 3 and row 4
    half = crop_box(
        image, (slice(0, 10), slice(4, 20)), np.array([12.0, 5.0]), context=0, working_size=8
    )
    assert (
        half.gray.shape == (5, 8)
        and half.scale == 0.5
        and half.peak.tolist() == [3.5, 2]
        and half.in_box.all()
    )
    assert half.gray[0, 0] == np.mean([4, 5, 24, 25]) and half.resize_to_window(
        np.ones((5, 8), bool)
    ).shape == (10, 16)


def test_the_score_is_the_contrast():
    gray = np.array([[30.0, 30.0], [10.0, 10.0]])
    mask = gray > 20
    assert compute_contrast(gray, mask) == 0.5  # (30 - 10) / (30 + 10)
    assert (
        compute_contrast(gray, ~mask) == 0
        and compute_contrast(gray, mask | True) == 0
        and compute_contrast(gray, mask & False) == 0
    )


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (GrabCutSegmenter, "sigma", -1),
        (GrabCutSegmenter, "iterations", 0),
        (GrabCutSegmenter, "middle", 2),
        (RandomWalkerSegmenter, "beta", -1),
        (RandomWalkerSegmenter, "reach", 0),
        (RandomWalkerSegmenter, "context", 1.5),
        (RandomWalkerSegmenter, "working_size", 4),
    ],
)
def test_impossible_numbers_are_refused(kind, name, value):
    with pytest.raises(UserError, match=rf"{name}={value} is not allowed; it must be a .*number"):
        kind(**{name: value})
