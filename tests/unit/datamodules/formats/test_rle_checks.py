"""Tests of run lengths from other tools.

Lengths that do not fill their image are refused before pycocotools sees them; the parser that
checks compressed strings is the project's own.
"""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from datamodules.errors import ManifestError
from datamodules.formats.coco import read_coco, segmentation_rle
from datamodules.formats.rle import decode_rle, encode_rle

SIZE = [96, 96]
FULL = coco_mask.frPyObjects({"size": SIZE, "counts": [10, 20, 9186]}, 96, 96)["counts"].decode()
SHORT = coco_mask.frPyObjects({"size": SIZE, "counts": [10, 20]}, 96, 96)["counts"].decode()

WRONG = {
    "short list": (
        {"size": SIZE, "counts": [10, 20]},
        "add up to 30 pixels, and a 96 x 96 image has 9216",
    ),
    "short string": (
        {"size": SIZE, "counts": SHORT},
        "add up to 30 pixels, and a 96 x 96 image has 9216",
    ),
    "05": ({"size": SIZE, "counts": "05"}, "add up to 5 pixels"),
    "no runs": ({"size": SIZE, "counts": []}, "add up to 0 pixels"),
    "empty string": ({"size": SIZE, "counts": ""}, "are empty"),
    "long list": ({"size": SIZE, "counts": [10, 9207]}, "add up to 9217 pixels"),
    "long run": ({"size": SIZE, "counts": [10, 9999]}, "hold 9999, but a run has 0 to 9216 pixels"),
    "long string": (
        coco_mask.frPyObjects({"size": [96, 97], "counts": [10, 9302]}, 96, 97) | {"size": SIZE},
        "longer than the 9216 pixels",
    ),
    "float": ({"size": SIZE, "counts": [10.5, 9205.5]}, "hold 10.5, which is not a whole number"),
    "NaN": ({"size": SIZE, "counts": [float("nan"), 9216]}, "hold nan, which"),
    "infinite": ({"size": SIZE, "counts": [float("inf"), 9216]}, "hold inf, which"),
    "negative": ({"size": SIZE, "counts": [-3, 9219]}, "hold -3, but a run has"),
    "negative in a string": ({"size": SIZE, "counts": "O5"}, "negative or longer"),
    "bool": ({"size": SIZE, "counts": [True, 9215]}, "hold True, which"),
    "None among them": ({"size": SIZE, "counts": [None, 9216]}, "hold None, which"),
    "text among them": ({"size": SIZE, "counts": ["10", 9206]}, "hold '10', which"),
    "nested": ({"size": SIZE, "counts": [[10, 20, 9186]]}, r"hold \[10, 20, 9186\], which"),
    "huge": ({"size": SIZE, "counts": [10**30]}, "hold 1000"),
    "huge string": ({"size": SIZE, "counts": "o" * 30 + "0"}, "larger than any image"),
    "not ASCII": (
        {"size": SIZE, "counts": "0é5"},
        "'0é5' hold a character that no compressed RLE has",
    ),
    "garbage": (
        {"size": SIZE, "counts": "0~5"},
        "'0~5' hold a character that no compressed RLE has",
    ),
    "garbage bytes": (
        {"size": SIZE, "counts": b"0\xff5"},
        "hold a character that no compressed RLE has",
    ),
    "cut off": ({"size": SIZE, "counts": "0o"}, "cut off in the middle of a number"),
    "counts missing": ({"size": SIZE}, "counts of the RLE are missing"),
    "counts None": ({"size": SIZE, "counts": None}, "counts of the RLE are missing"),
    "counts a number": ({"size": SIZE, "counts": 9216}, r"neither a list nor a string \(9216\)"),
    "counts a dict": ({"size": SIZE, "counts": {"0": 9216}}, "neither a list nor a string"),
    "size missing": (
        {"counts": [9216]},
        r"size of the RLE is None, and not two whole numbers \[height, width\]",
    ),
    "another size": (
        {"size": [96, 97], "counts": [96 * 97]},
        "the size 96 x 97, and the image has 96 x 96 pixels",
    ),
    "three sizes": ({"size": [96, 96, 1], "counts": [9216]}, "not two whole numbers"),
    "size of floats": ({"size": [96.5, 96], "counts": [9216]}, "not two whole numbers"),
    "size of text": ({"size": ["96", "96"], "counts": [9216]}, "not two whole numbers"),
    "size of bools": ({"size": [True, True], "counts": [1]}, "not two whole numbers"),
    "size of zeros": ({"size": [0, 96], "counts": []}, "not two whole numbers"),
    "negative size": ({"size": [-96, -96], "counts": [9216]}, "not two whole numbers"),
    "gigantic": (
        {"size": [10**9, 10**9], "counts": [10**18]},
        "1000000000 x 1000000000, above the limit of 100,000,000 pixels",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fill_its_image_is_not_decoded(name):
    rle, said = WRONG[name]
    with pytest.raises(ValueError, match=said):
        decode_rle([rle], 96, 96)


@pytest.mark.parametrize("name", WRONG)
def test_coco_names_the_file_and_the_annotation(name):
    rle, _ = WRONG[name]
    said = (
        r"^train/a\.json: annotation 7 of 'a\.jpg' has an RLE that cannot be used: .*; export the"
        r" annotation again, or remove it$"
    )
    with pytest.raises(ManifestError, match=said) as refusal:
        segmentation_rle(
            {"id": 7, "segmentation": rle},
            {"file_name": "a.jpg", "height": 96, "width": 96},
            "train/a.json",
        )
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("segmentation", [5, 1.5, True, "abc"])
def test_a_segmentation_that_is_neither_polygons_nor_rle_is_refused(segmentation):
    with pytest.raises(ManifestError, match=r"annotation 7 of 'a\.jpg' has a segmentation of type"):
        segmentation_rle(
            {"id": 7, "segmentation": segmentation},
            {"file_name": "a.jpg", "height": 96, "width": 96},
            "a.json",
        )


def test_a_gigantic_image_is_refused_by_its_entry(tmp_path):
    (tmp_path / "a.json").write_text(
        '{"images": [{"id": 0, "file_name": "a.jpg", "height": 1000000000, "width": 1000000000}],'
        ' "annotations": [], "categories": []}'
    )
    with pytest.raises(
        ManifestError,
        match=(
            r"image 'a\.jpg' has the size 1000000000 x 1000000000, above the limit of 100,000,000"
        ),
    ):
        read_coco(tmp_path / "a.json")


def test_whole_floats_and_zero_runs_are_right():
    for counts in (
        [10.0, 20.0, 9186.0],
        [10, 20, 0, 0, 9186],
        [10, 5, 0, 15, 9186],
        FULL,
        FULL.encode(),
    ):
        mask = decode_rle([{"size": SIZE, "counts": counts}], 96, 96)[..., 0]
        assert mask.sum() == 20 and mask.ravel(order="F")[10:30].all()
    assert decode_rle([None, {"size": SIZE, "counts": [0, 9216]}], 96, 96).sum((0, 1)).tolist() == [
        0,
        9216,
    ]


masks = array_shapes(min_dims=2, max_dims=2, max_side=40).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


@given(masks)
def test_every_string_that_pycocotools_writes_is_accepted_and_means_the_same(mask):
    rle = encode_rle(mask[..., None])[0]
    assert np.array_equal(decode_rle([rle], *mask.shape)[..., 0], mask)
    assert np.array_equal(decode_rle([rle], *mask.shape)[..., 0], coco_mask.decode(rle))


@given(
    st.lists(st.integers(0, 2_000_000), min_size=1, max_size=30).filter(
        lambda runs: 0 < sum(runs) <= 60_000_000
    )
)
@example([0, 60_000_000])
@example([29_999_999, 1, 30_000_000])
@example([1, 0, 0, 59_999_999])
def test_runs_of_any_length_are_read_as_they_were_written(runs):
    from datamodules.formats.rle import _parse_compressed_runs

    text = coco_mask.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))["counts"]
    assert (
        _parse_compressed_runs(text, sum(runs)).tolist()
        == runs
        == _parse_compressed_runs(text.decode(), sum(runs)).tolist()
    )


@given(
    st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12),
    st.integers(1, 12),
    st.integers(1, 12),
)
@example("PPPPPP0", 1, 1)
def test_any_text_is_refused_or_is_what_pycocotools_reads(text, height, width):
    rle = {"size": [height, width], "counts": text}
    try:
        mask = decode_rle([rle], height, width)[..., 0]
    except ValueError as error:
        assert "RLE" in str(error) or "counts" in str(error)
    else:
        assert coco_mask.area(rle) == mask.sum() and np.array_equal(coco_mask.decode(rle), mask)
