"""Tests of what do=[inspect] says about groups and classes."""

import numpy as np

from datamodules.own_data import OwnDataModule
from reporting.data_page import (
    choose_rows,
    describe_color,
    describe_dataset,
    short_description,
    suggest_pattern,
)
from tests.factories.layouts import draw, image_mask_folders, save


def test_beginnings_of_names_that_images_share_are_suggested_as_patients():
    ids = [f"images/case{n // 4}_{n:03d}" for n in range(40)]
    assert suggest_pattern(ids) == (10, "case0")
    assert suggest_pattern([f"images/{n:03d}" for n in range(40)]) is None
    assert suggest_pattern([f"images/{n:03d}_a" for n in range(40)]) is None  # all differ
    assert suggest_pattern(["a_1", "b_2"]) is None


def test_color_that_would_be_lost_is_said(tmp_path):
    root = tmp_path / "data"
    items = draw(24, size=(64, 64))
    for n, item in enumerate(items):
        gray = np.repeat(item.image[..., None], 3, 2)
        save(
            root / "images" / f"{item.name}.png",
            gray if n % 3 == 0 else gray // np.uint8((1, 2, 3)),
        )
        save(root / "masks" / f"{item.name}.png", item.labels)
    words = {"cache_dir": str(tmp_path / "cache"), "image_size": 32, "num_workers": 0}
    data = OwnDataModule(root=str(root), **words)
    assert "8 of 12 images that were looked at are in color" in describe_color(data)["color"]
    assert describe_color(OwnDataModule(root=str(root), channels=3, **words)) == {}


def test_facts_and_pictures_of_a_data_set(tmp_path):
    root = tmp_path / "data"
    items = draw(24, size=(64, 64))
    image_mask_folders(root, items, [])
    data = OwnDataModule(
        root=str(root), cache_dir=str(tmp_path / "cache"), image_size=32, num_workers=0
    )
    data.prepare_data()
    facts = describe_dataset(data)["facts"]
    pixels = 24 * 64 * 64
    for k in (1, 2):
        shown = sum((item.labels == k).any() for item in items)
        area = sum(int((item.labels == k).sum()) for item in items)
        share = f"({shown} separate areas, {area / pixels:.2%} of all pixels)"
        assert f"class_{k} in {shown} images {share}" in facts["classes"]
    assert "exclusive" in facts["classes"]
    empty = sum(not item.labels.any() for item in items)
    assert facts["images with an empty mask"] == str(empty)
    assert facts["copies"] == "no two files are equal"
    assert set(short_description(data)) <= set(facts) | {"layout", "mask values"}
    areas = {item.name: int((item.labels > 0).sum()) for item in items}
    chosen = choose_rows(data)
    names = [data.table.rows["id"].iat[row].split("/")[1] for row in chosen["smallest masks"]]
    lesions = sorted(area for area in areas.values() if area)
    assert [areas[name] for name in names] == lesions[: len(names)]
    assert len(chosen["random images"]) == 10
