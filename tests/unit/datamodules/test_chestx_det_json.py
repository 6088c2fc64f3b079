"""Tests of ChestX-Det's files: polygon filling by pixel centers and clipping at the border."""

import json
import math

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from datamodules.chestx_det import FINDING_CLASSES, Finding, outline_rle, read_chestx_det
from datamodules.errors import ManifestError
from datamodules.formats.rle import decode_rle

HEIGHT, WIDTH = 90, 120


def filled(points, height=HEIGHT, width=WIDTH):
    rle, cut = outline_rle(Finding("Mass", None, points), height, width, "a.json: 'a.png'")
    return (
        np.zeros((height, width), np.uint8)
        if rle is None
        else decode_rle([rle], height, width)[..., 0]
    ), cut


def middles(points, height=HEIGHT, width=WIDTH) -> np.ndarray:
    """Which pixels' middles lie within, by matplotlib."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return (
        Polygon(points)
        .contains_points(np.stack([columns.ravel(), rows.ravel()], 1))
        .reshape(height, width)
    )


def blob(random, corners=40):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = 25 + np.convolve(random.normal(0, 6, corners), np.ones(5) / 5, "same")
    return [
        (float(x), float(y))
        for x, y in np.rint(np.stack([60 + radius * np.cos(angle), 45 + radius * np.sin(angle)], 1))
    ]


def test_a_rectangle_fills_its_pixels_exactly():
    mask, cut = filled([(5, 4), (15, 4), (15, 9), (5, 9)])
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[4:9, 5:15] = 1
    assert np.array_equal(mask, expected) and not cut


@pytest.mark.parametrize("seed", range(5))
def test_an_outline_fills_the_pixels_whose_middle_it_holds(seed):
    points = blob(np.random.default_rng(seed))
    mask, truth = filled(points)[0] > 0, middles(points)
    rows, columns = np.nonzero(mask != truth)
    closed = np.array([*points, points[0]])
    near = [_distance(closed, x + 0.5, y + 0.5) for y, x in zip(rows, columns, strict=True)]
    assert (
        max(near, default=0) < 0.4 and len(near) < 0.02 * truth.sum()
    )  # only where a border runs all but through the middle


def _distance(closed: np.ndarray, x: float, y: float) -> float:
    """From a point to the nearest side of a closed polygon."""
    start, along = closed[:-1], np.diff(closed, axis=0)
    t = np.clip(
        ((np.array([x, y]) - start) * along).sum(1) / np.maximum((along**2).sum(1), 1e-9), 0, 1
    )
    return float(np.hypot(*(start + t[:, None] * along - (x, y)).T).min())


@pytest.mark.parametrize(
    "points",
    [[(-4, 10), (20, 10), (20, 30), (-4, 30)], [(100, 80), (124, 80), (124, 93), (100, 93)]],
)
def test_what_stands_out_is_cut_off_at_the_border(points):
    mask, cut = filled(points)
    assert cut and np.array_equal(mask, middles(points))


def test_a_slanted_outline_keeps_its_course_where_it_is_cut():
    points = [(-5, 10), (40, 10), (40, 60)]  # its points moved to the border would make it fatter
    mask, cut = filled(points)
    assert (
        cut
        and np.abs(mask - middles(points).astype(int)).sum() <= 25
        and mask.sum() == pytest.approx(middles(points).sum(), rel=0.02)
    )


def test_an_outline_of_another_image_size_is_refused_and_names_both():
    with pytest.raises(
        ManifestError,
        match=r"'a.png' has a 'Mass' that extends 30 pixels beyond the 120 x 90 image; .*1024",
    ):
        filled([(100, 10), (150, 10), (150, 40)])


def test_an_outline_without_area_is_no_mask():
    assert (
        outline_rle(Finding("Mass", None, [(5, 5), (9, 5), (5, 5)]), HEIGHT, WIDTH, "")[0] is None
    )


@pytest.mark.parametrize(
    ("box", "agrees"),
    [
        ([2, 3, 12, 13], True),
        ([4, 1, 10, 15], True),
        ([2, 3, 12, 16], False),
        ([2, 3, 10, 10, 1], False),
        (None, False),
        ([2, 3, 12, math.nan], False),
    ],
)
def test_a_box_agrees_to_within_two_pixels(box, agrees):
    assert Finding("Mass", box, [(2, 3), (12, 5), (7, 13)]).box_matches_polygon == agrees


def test_a_file_is_read_in_its_order(tmp_path):
    polygon = [[1, 1], [5, 1], [5, 6]]
    entries = [
        {
            "file_name": "9.png",
            "syms": ["Mass", "Diffuse Nodule"],
            "boxes": [[1, 1, 5, 6], [0, 0, 9, 9]],
            "polygons": [polygon, polygon],
        },
        {"file_name": "1.png", "syms": [], "boxes": [], "polygons": []},
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    found = read_chestx_det(tmp_path / "a.json")
    assert list(found) == ["9.png", "1.png"] and found["1.png"] == []
    assert [(f.name, f.polygon, f.box_matches_polygon) for f in found["9.png"]] == [
        ("Mass", [(1, 1), (5, 1), (5, 6)], True),
        ("Diffuse Nodule", [(1, 1), (5, 1), (5, 6)], False),
    ]


def test_there_are_thirteen_classes_in_the_order_of_the_alphabet():
    assert len(set(FINDING_CLASSES)) == 13 and sorted(FINDING_CLASSES) == list(FINDING_CLASSES)
