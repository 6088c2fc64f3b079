"""Tests that dark images, and no others, are shown with a display gamma that the page names."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.loading.letterbox import ContentBox
from reporting import classification, segmentation
from reporting.cases import DISPLAY_GAMMA, apply_gamma, display_gamma


def scan(top: int) -> np.ndarray:
    """Gray values that rise evenly to `top`, and a few saturated pixels, as the bladder's."""
    pixels = np.linspace(0, top, 32 * 32).astype(np.uint8).reshape(32, 32)
    pixels[:2, :2] = 255
    return pixels


@pytest.mark.parametrize(("top", "gamma"), [(60, DISPLAY_GAMMA), (200, 1.0)])
def test_only_dark_images_are_brightened(top, gamma):
    gray = scan(top)
    assert display_gamma(gray) == gamma
    wanted = np.round(255 * (gray / 255.0) ** gamma).astype(np.uint8)
    assert np.array_equal(apply_gamma(gray, display_gamma(gray)), wanted)
    batch = {"image": torch.tensor(gray)[None, None], "content": [ContentBox(0, 0, 32, 32)]}
    for view in (segmentation, classification):
        assert np.array_equal(view.render_image(batch, 0, side=32)[..., 0], wanted)
    assert np.array_equal(batch["image"][0, 0].numpy(), scan(top))


def test_the_caption_and_the_legend_name_the_gamma(tmp_path, monkeypatch):
    from tests.factories import pages

    plain = pages.labels(tmp_path / "plain").path.read_text()
    assert "display gamma" not in plain
    write = pages.write_page
    monkeypatch.setattr(
        pages,
        "write_page",
        lambda found, seen, cases, folder: write(
            found, seen, [replace(case, gamma=0.5) for case in cases], folder
        ),
    )
    dark = pages.labels(tmp_path / "dark").path.read_text()
    assert "Dark images are shown brighter" in dark and " · display gamma 0.5 · " in dark
