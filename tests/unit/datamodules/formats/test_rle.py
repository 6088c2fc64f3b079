"""Tests of SIIM-ACR run lengths against masks made with NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from datamodules.formats.rle import decode_rle, decode_siim, encode_rle, encode_siim, rle_to_siim

masks = array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@given(masks, st.booleans())
def test_text_and_back(mask, relative):
    rle = decode_siim([encode_siim(mask, relative)], *mask.shape, relative)
    assert np.array_equal(decode_rle([rle], *mask.shape)[..., 0], mask)
    assert rle == (
        encode_rle(mask[..., None])[0] if mask.any() else None
    )  # the very string that pycocotools writes
    assert rle_to_siim(rle, relative) == encode_siim(mask, relative)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9995])
def test_large_masks_have_long_runs(share, relative):
    mask = (np.random.default_rng(0).random((500, 700)) < share).astype(np.uint8)
    mask[:, 100:300] = share > 0.5
    text = encode_siim(mask, relative)
    assert rle_to_siim(encode_rle(mask[..., None])[0], relative) == text
    assert np.array_equal(
        decode_rle([decode_siim([text], 500, 700, relative)], 500, 700)[..., 0], mask
    )


@st.composite
def overlapping(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=9))
    return draw(
        st.lists(arrays(np.uint8, shape, elements=st.integers(0, 1)), min_size=1, max_size=5)
    )


@given(overlapping(), st.booleans())
def test_several_rows_are_one_mask_and_overlap_counts_once(rows, relative):
    rle = decode_siim([encode_siim(row, relative) for row in rows], *rows[0].shape, relative)
    assert np.array_equal(decode_rle([rle], *rows[0].shape)[..., 0], np.any(rows, axis=0))


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(1, 30)), min_size=1, max_size=8))
def test_absolute_runs_may_stand_in_any_order_and_overlap(pairs):
    runs = [(start, min(length, 30 - start)) for start, length in pairs]
    expected = np.zeros(30, np.uint8)
    for start, length in runs:
        expected[start : start + length] = 1
    rle = decode_siim(
        [" ".join(f"{start} {length}" for start, length in runs)], 5, 6, relative=False
    )
    assert rle == encode_rle(expected.reshape(5, 6, order="F")[..., None])[0]


def test_by_hand():
    # column-major numbers of a 3 x 4 image:  0 3 6  9
    #                                         1 4 7 10
    #                                         2 5 8 11
    expected = np.array(
        [[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 1]], np.uint8
    )  # pixels 1, 2, 3 and 11
    assert (
        encode_siim(expected) == "1 3 7 1" and encode_siim(expected, relative=False) == "1 3 11 1"
    )
    for text, relative in (
        ("1 3 7 1", True),
        ("1 3 11 1", False),
        ("11 1 1 2 2 2", False),
        (" 1 2  0 1 7 1 ", True),
    ):
        assert np.array_equal(
            decode_rle([decode_siim([text], 3, 4, relative)], 3, 4)[..., 0], expected
        )


def test_nothing_is_minus_one():
    assert encode_siim(np.zeros((4, 5), np.uint8)) == rle_to_siim(None) == "-1"
    assert (
        rle_to_siim(encode_rle(np.zeros((4, 5, 1)))[0]) == "-1"
        and rle_to_siim(encode_rle(np.ones((4, 5, 1)))[0]) == "0 20"
    )
    assert decode_siim(["-1", " -1", ""], 4, 5) is None and decode_siim([], 4, 5) is None
    assert rle_to_siim(decode_siim(["-1", "2 3"], 4, 5)) == "2 3"


def test_a_mask_of_0_and_255_is_the_same_mask():
    assert encode_siim(np.array([[0, 255], [255, 255]], np.uint8)) == "1 3"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 2 3", "odd number"),
        ("1 two", "whole number"),
        ("1 2.5", "whole number"),
        (f"1 {10**30}", "whole number"),
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
        decode_siim(["-1", text], 4, 5)


def test_absolute_starts_are_named_and_the_last_pixel_fits():
    with pytest.raises(ValueError, match="negative start"):
        decode_siim(["-2 3"], 4, 5, relative=False)
    with pytest.raises(ValueError, match="reaches pixel 21"):
        decode_siim(["19 2"], 4, 5, relative=False)
    assert rle_to_siim(decode_siim(["19 1"], 4, 5, relative=False)) == "19 1"
