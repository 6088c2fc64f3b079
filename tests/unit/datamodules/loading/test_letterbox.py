"""Tests of the letterbox: it keeps the aspect, stays on the canvas and loses no mask."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.loading.letterbox import Letterbox, evaluation_grid_size

sides = st.integers(1, 3000)


canvases = st.sampled_from([32, 64, 256, 640, (1024, 512), (512, 1024), (96, 32)])


@given(sides, sides, canvases)
def test_the_picture_is_as_large_as_the_canvas_lets_it_and_is_centered(height, width, size):
    box = Letterbox(height, width, size)
    top, left, h, w = box.content
    rows, columns = box.canvas
    assert (h == rows or w == columns) and 1 <= h <= rows and 1 <= w <= columns
    assert 0 <= (rows - h) - 2 * top <= 1 and 0 <= (columns - w) - 2 * left <= 1
    assert abs(h - max(1, height * box.scale)) <= 0.5 and abs(w - max(1, width * box.scale)) <= 0.5


def test_a_whole_body_scan_fits_the_tall_canvas_at_its_size_and_an_eighth_of_the_published_one():
    tall, published = Letterbox(1024, 256, (1024, 512)), Letterbox(1024, 256, (512, 1024))
    assert tall.scale == 1.0 and tall.content == (0, 128, 1024, 256)
    assert published.scale == 0.5 and published.content == (0, 448, 512, 128)
    assert published.content.height * published.content.width / (512 * 1024) == 0.125


@given(sides, sides, canvases, st.lists(st.tuples(*[st.floats(0, 1)] * 4), max_size=5))
def test_points_and_boxes_come_back_exactly(height, width, size, shares):
    box = Letterbox(height, width, size)
    own = np.array(shares).reshape(-1, 4) * [width, height, width, height]
    there = box.boxes(own)
    top, left, h, w = box.content
    assert (
        (there >= np.array([left, top] * 2) - 1e-6)
        & (there <= np.array([left + w, top + h] * 2) + 1e-6)
    ).all()
    assert np.allclose(box.boxes_back(there), own, atol=1e-9 * max(height, width))
    assert np.array_equal(box.points(own[:, :2]), there[:, :2])


@given(st.integers(8, 60), st.integers(8, 60), st.integers(1, 4), st.data())
def test_a_mask_comes_back_exactly_from_a_canvas_that_is_a_whole_number_of_times_larger(
    height, width, times, data
):
    box = Letterbox(
        height, width, (height * times, width * times + 2 * data.draw(st.integers(0, 9)))
    )
    mask = np.random.default_rng(data.draw(st.integers(0, 999))).random((height, width, 1)) < 0.4
    assert box.scale == times
    blocks = np.zeros((*box.canvas, 1), np.uint8)
    top, left, h, w = box.content
    blocks[top : top + h, left : left + w] = mask.repeat(times, 0).repeat(times, 1)
    assert np.array_equal(box.mask_back(blocks[..., 0]), mask[..., 0])


@given(st.integers(60, 300), st.integers(60, 300), st.sampled_from([(256, 128), (128, 256), 192]))
def test_a_rectangle_lies_on_the_canvas_where_its_box_does(height, width, size):
    box, corners = (
        Letterbox(height, width, size),
        np.array([[0.25, 0.3, 0.7, 0.8]]) * [width, height, width, height],
    )
    mask = np.zeros((height, width, 1), np.uint8)
    x1, y1, x2, y2 = corners[0].round().astype(int)
    mask[y1:y2, x1:x2] = 1
    rows, columns = box.mask(mask)[..., 0].nonzero()
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(found - box.boxes(np.array([[x1, y1, x2, y2]]))[0]).max() <= 1.0
    back = np.argwhere(box.mask_back(box.mask(mask)[..., 0]))
    assert (
        np.abs([*back.min(0), *(back.max(0) + 1)] - np.array([y1, x1, y2, x2])).max()
        <= 1 + 1 / box.scale
    )


@given(st.integers(20, 90), st.integers(20, 90))
def test_nothing_is_drawn_outside_the_picture(height, width):
    box = Letterbox(height, width, 64)
    image, mask = (
        box.image(np.full((height, width, 1), 255, np.uint8)),
        box.mask(np.ones((height, width, 2), np.uint8)),
    )
    top, left, h, w = box.content
    for canvas, full in ((image, 255), (mask, 1)):
        assert (
            canvas[top : top + h, left : left + w] == full
        ).all() and canvas.sum() == full * h * w * canvas.shape[2]


def test_half_covered_pixels_belong_to_the_mask():
    mask = np.zeros((4, 4, 1), np.uint8)
    mask[:, :1] = 1  # the left half of the left column of the 2 x 2 canvas
    assert Letterbox(4, 4, 2).mask(mask)[..., 0].tolist() == [[1, 0], [1, 0]]
    mask[0, 0] = mask[2, 1] = 0  # a quarter of the upper pixel is left
    mask[3, :2] = mask[2, 1] = 1  # three quarters of the lower one, and more
    mask[1, 0] = 1
    assert Letterbox(4, 4, 2).mask(mask)[..., 0].tolist() == [[0, 0], [1, 0]]


def test_the_grid():
    assert evaluation_grid_size(640, 480, "native") == (640, 480) and evaluation_grid_size(
        640, 480, 320
    ) == (
        320,
        240,
    )


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(300, 200, 64), (37, 53, 64), (64, 64, 64), (128, 128, 64), (500, 90, (96, 64)), (5, 7, 32)],
)
def test_logits_return_to_the_image_as_torch_interpolates_them(height, width, size):
    box = Letterbox(height, width, size)
    canvas = np.random.default_rng(0).normal(0, 2, (2, *box.canvas)).astype(np.float32)
    inside = torch.from_numpy(canvas)[None][box.content.slices]
    expected = torch.nn.functional.interpolate(
        inside, size=(height, width), mode="bilinear", align_corners=False
    )[0]
    found = box.logits_back(canvas)
    assert found.shape == (2, height, width)
    assert np.abs(found - expected.numpy()).max() < 1e-5
