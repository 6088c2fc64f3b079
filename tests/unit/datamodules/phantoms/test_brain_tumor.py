"""Tests of brain phantoms: a head in every slice, repeatable from a seed and written once."""

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import UserError
from datamodules.phantoms import brain_tumor
from datamodules.phantoms.brain_tumor import draw_slice


def test_every_slice_shows_a_head_on_a_dark_ground():
    random = np.random.default_rng(5)
    for _ in range(40):
        drawn = draw_slice(random, 96)
        middle, corner = drawn.image[30:66, 30:66].mean(), drawn.image[:8, :8].mean()
        assert middle > 2 * corner, "noise drowns the head"
        assert 20 < drawn.mask.sum() < 0.25 * drawn.mask.size


def test_a_seed_draws_the_same_slice():
    one, two = (draw_slice(np.random.default_rng(7), 64) for _ in range(2))
    assert np.array_equal(one.image, two.image) and np.array_equal(one.mask, two.mask)
    assert draw_slice(np.random.default_rng(7), 64, tumor=False).mask.sum() == 0


def test_the_export_has_the_warts_of_real_ones(export):
    train, test = (
        json.loads((export / name / "_annotations.coco.json").read_text())
        for name in ("train", "test")
    )
    assert train["images"][0]["id"] == test["images"][0]["id"] == 0
    assert {a["category_id"] for a in train["annotations"]} == {1} and len(train["categories"]) == 2
    originals = [
        {image["file_name"].split(".rf.")[0] for image in part["images"]} for part in (train, test)
    ]
    assert len(originals[0] & originals[1]) == 1
    assert min(train["annotations"][0]["segmentation"][0]) == -1


def test_real_data_is_never_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not phantoms"):
        brain_tumor.write(tmp_path, train=2, valid=1, test=1, size=64)
    assert (tmp_path / "mine.txt").read_text() == "precious" and len(list(tmp_path.iterdir())) == 1
    assert not Path(f"{tmp_path}.lock").exists()
