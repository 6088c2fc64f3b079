"""Tests of COCO files: polygons give the masks that pycocotools makes of them."""

import numpy as np
from pycocotools import mask as coco_mask

from datamodules.formats.coco import segmentation_rle
from datamodules.formats.rle import decode_rle

IMAGE = {"file_name": "a.jpg", "height": 20, "width": 30}


def mask_of(segmentation, **more):
    rle, clipped = segmentation_rle({"id": 1, "segmentation": segmentation} | more, IMAGE, "a.json")
    return decode_rle([rle], 20, 30)[..., 0], clipped


def test_a_rectangle_fills_its_pixels():
    mask, clipped = mask_of([[5, 4, 15, 4, 15, 9, 5, 9]])
    expected = np.zeros((20, 30), np.uint8)
    expected[4:9, 5:15] = 1
    assert np.array_equal(mask, expected) and not clipped


def test_several_polygons_are_one_mask_and_overlap_counts_once():
    mask, _ = mask_of([[0, 0, 10, 0, 10, 10, 0, 10], [5, 5, 15, 5, 15, 15, 5, 15]])
    assert mask.max() == 1 and mask.sum() == 100 + 100 - 25


def test_two_pixels_outside_are_clipped_and_said():
    mask, clipped = mask_of([[-2, 3, 10, 3, 10, 8, -2, 8]])
    assert clipped and mask.sum() == 10 * 5


def test_rle_compressed_or_not_is_read():
    wanted = np.zeros((20, 30), np.uint8, order="F")
    wanted[3:7, 8:12] = 1
    compressed = coco_mask.encode(wanted)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], wanted.ravel(order="F"), [2]]))))
    for segmentation in (
        {"size": [20, 30], "counts": compressed["counts"].decode()},
        {"size": [20, 30], "counts": runs.tolist()},
    ):
        assert np.array_equal(mask_of(segmentation)[0], wanted)


def test_a_box_stands_in_where_there_is_no_outline():
    mask, _ = mask_of([], bbox=[2, 3, 4, 5])
    assert mask.sum() == 20 and mask[3:8, 2:6].all()
