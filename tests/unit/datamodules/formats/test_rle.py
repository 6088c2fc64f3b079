"""Tests of SIIM-ACR run lengths against masks made with NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from datamodules.formats.rle import as_siim, decode, encode, from_siim, to_siim

masks = array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@given(masks, st.booleans())
def test_text_and_back(mask, relative):
    rle = from_siim([to_siim(mask, relative)], *mask.shape, relative)
    assert np.array_equal(decode([rle], *mask.shape)[..., 0], mask)
    assert rle == (
        encode(mask[..., None])[0] if mask.any() else None
    )  # the very string that pycocotools writes
    assert as_siim(rle, relative) == to_siim(mask, relative)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9995])
def test_large_masks_have_long_runs(share, relative):
    mask = (np.random.default_rng(0).random((500, 700)) < share).astype(np.uint8)
    mask[:, 100:300] = share > 0.5
    text = to_siim(mask, relative)
    assert as_siim(encode(mask[..., None])[0], relative) == text
    assert np.array_equal(decode([from_siim([text], 500, 700, relative)], 500, 700)[..., 0], mask)


@st.composite
def overlapping(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=9))
    return draw(
        st.lists(arrays(np.uint8, shape, elements=st.integers(0, 1)), min_size=1, max_size=5)
    )


@given(overlapping(), st.booleans())
def test_several_rows_are_one_mask_and_overlap_counts_once(rows, relative):
    rle = from_siim([to_siim(row, relative) for row in rows], *rows[0].shape, relative)
    assert np.array_equal(decode([rle], *rows[0].shape)[..., 0], np.any(rows, axis=0))


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(1, 30)), min_size=1, max_size=8))
def test_absolute_runs_may_stand_in_any_order_and_overlap(pairs):
    runs = [(start, min(length, 30 - start)) for start, length in pairs]
    expected = np.zeros(30, np.uint8)
    for start, length in runs:
        expected[start : start + length] = 1
    rle = from_siim([" ".join(f"{start} {length}" for start, length in runs)], 5, 6, relative=False)
    assert rle == encode(expected.reshape(5, 6, order="F")[..., None])[0]


def test_by_hand():
    # column-major numbers of a 3 x 4 image:  0 3 6  9
    #                                         1 4 7 10
    #                                         2 5 8 11
    expected = np.array(
        [[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1]], np.uint8
    )  # pixels 1, 2, 3 and 11
    assert to_siim(expected) == "1 3 7 1" and to_siim(expected, relative=False) == "1 3 11 1"
    for text, relative in (
        ("1 3 7 1", True),
        ("1 3 11 1", False),
        ("11 1 1 2 2 2", False),
        (" 1 2  0 1 7 1 ", True),
    ):
        assert np.array_equal(decode([from_siim([text], 3, 4, relative)], 3, 4)[..., 0], expected)


def test_nothing_is_minus_one():
    assert to_siim(np.zeros((4, 5), np.uint8)) == as_siim(None) == "-1"
    assert (
        as_siim(encode(np.zeros((4, 5, 1)))[0]) == "-1"
        and as_siim(encode(np.ones((4, 5, 1)))[0]) == "0 20"
    )
    assert from_siim(["-1", " -1", ""], 4, 5) is None and from_siim([], 4, 5) is None
    assert as_siim(from_siim(["-1", "2 3"], 4, 5)) == "2 3"


def test_a_mask_of_0_and_255_is_the_same_mask():
    assert to_siim(np.array([[0, 255], [255, 255]], np.uint8)) == "1 3"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2 3", "odd number"),
        ("1 two", "whole numbers"),
        ("1 2.5", "whole numbers"),
        (f"1 {10**30}", "whole numbers"),
        ("1 0", "length below 1"),
        ("1 -3", "length below 1"),
        ("-2 3", "negative gap"),
        ("10 11", "reaches pixel 21 of a 4 x 5 image"),
        ("10 5 5 1", "reaches pixel 21"),
        (f"{2**62} {2**62}", "beyond the 20 pixels"),
    ],
)
def test_what_is_wrong_is_said(text, reason):
    with pytest.raises(ValueError, match=reason):
        from_siim(["-1", text], 4, 5)


def test_absolute_starts_are_named_and_the_last_pixel_fits():
    with pytest.raises(ValueError, match="negative start"):
        from_siim(["-2 3"], 4, 5, relative=False)
    with pytest.raises(ValueError, match="reaches pixel 21"):
        from_siim(["19 2"], 4, 5, relative=False)
    assert as_siim(from_siim(["19 1"], 4, 5, relative=False)) == "19 1"
