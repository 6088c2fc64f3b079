"""The letterbox keeps the aspect, stays on the canvas, and loses no mask."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.letterbox import Letterbox, grid

sides = st.integers(1, 3000)


@given(sides, sides, st.sampled_from([32, 64, 256, 640]))
def test_the_picture_fills_the_longest_side_and_is_centred(height, width, size):
    top, left, h, w = Letterbox(height, width, size).content
    assert max(h, w) == size and 1 <= h <= size and 1 <= w <= size
    assert 0 <= (size - h) - 2 * top <= 1 and 0 <= (size - w) - 2 * left <= 1
    assert abs(h / size - height / max(height, width)) <= 1 / size and abs(w / size - width / max(height, width)) <= 1 / size


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90))
def test_nothing_is_drawn_outside_the_picture(height, width):
    box = Letterbox(height, width, 64)
    image, mask = box.image(np.full((height, width, 1), 255, np.uint8)), box.mask(np.ones((height, width, 2), np.uint8))
    top, left, h, w = box.content
    for canvas, full in ((image, 255), (mask, 1)):
        assert (canvas[top : top + h, left : left + w] == full).all() and canvas.sum() == full * h * w * canvas.shape[2]


def test_half_covered_pixels_belong_to_the_mask():
    mask = np.zeros((4, 4, 1), np.uint8)
    mask[:, :1] = 1  # the left half of the left column of the 2 x 2 canvas
    assert Letterbox(4, 4, 2).mask(mask)[..., 0].tolist() == [[1, 0], [1, 0]]


def test_the_grid():
    assert grid(640, 480, "native") == (640, 480) and grid(640, 480, 320) == (320, 240)
