"""Tests of scaling activation maps to 0..1 per image and enlarging them without a shift."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.image import scale_cam_image

from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from weak_supervision.cam import CAMMethod, scale_to_unit_range, upsample


def test_an_svd_that_no_memory_holds_is_refused():
    with pytest.raises(UserError, match=r"SVD of 256 x 128 cells.*such as LayerCAM"):
        CAMMethod("EigenCAM", "key").compute([np.zeros((1, 2, 256, 128), np.float32)], [])


def test_only_the_image_without_evidence_is_zero():
    maps = np.array(
        [[[-1, 0], [-2, -3]], [[0, 2], [4, -8]], [[1, np.nan], [0, 0]], [[0, 1e-40], [0, 0]]],
        np.float32,
    )
    found = scale_to_unit_range(maps)
    assert (
        np.array_equal(found[:3], [[[0, 0], [0, 0]], [[0, 0.5], [1, 0]], [[0, 0], [0, 0]]])
        and found[3, 0, 1] == 1
        and found[3].sum() == 1
    )


@pytest.mark.parametrize("cell", [(3, 1), (0, 0), (7, 3)])
def test_a_cell_s_center_lands_at_its_place_on_the_canvas(cell):
    heat = np.zeros((1, 8, 4), np.float32)
    heat[0][cell] = 1
    canvas = upsample(heat, ImageSize(256, 128))
    rows, columns = np.nonzero(canvas[0] == canvas.max())
    middle = (rows.min() + rows.max() + 1) / 2, (columns.min() + columns.max() + 1) / 2
    at_border = cell != (3, 1)  # where there is no cell beyond, the maximum reaches to the border
    center = (cell[0] + 0.5) * 32, (cell[1] + 0.5) * 32
    assert all(
        abs(a - b) <= 8 if at_border else a == b for a, b in zip(middle, center, strict=True)
    )
    assert np.allclose(canvas, scale_cam_image(heat, (128, 256)), atol=1e-5) and upsample(
        heat[:0], (4, 2)
    ).shape == (0, 4, 2)


def test_cells_that_look_at_their_corner_are_placed_there():
    heat = np.zeros((1, 8, 4), np.float32)
    heat[0, 3, 2] = 1
    canvas = upsample(heat, (64, 32), "corner")[0]
    assert (
        np.unravel_index(canvas.argmax(), canvas.shape) == (24, 16) and canvas.max() == 1
    )  # the first pixel of the cell
    assert (
        canvas[20, 16] == canvas[28, 16] == 0.5
        and canvas[24, 12] == 0.5
        and canvas[16, 16] == canvas[32, 16] == 0
    )
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 1, 3, 2, 1),
        torch.nn.Conv2d(1, 1, 3, 2, 1),
        torch.nn.Conv2d(1, 1, 3, 2, 1),
    )
    for layer in net:
        torch.nn.init.ones_(layer.weight)
    image = torch.zeros(1, 1, 64, 32, requires_grad=True)
    (seen,) = torch.autograd.grad(net(image)[0, 0, 3, 2], image)
    rows, columns = seen[0, 0].sum(1), seen[0, 0].sum(0)
    assert (rows * torch.arange(64)).sum() / rows.sum() == 24 and (
        columns * torch.arange(32)
    ).sum() / columns.sum() == 16  # where it looks
