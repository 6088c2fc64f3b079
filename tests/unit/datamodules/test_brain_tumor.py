"""Tests of cleaning a COCO export: all faults are counted and each option does what it says."""

import json
import shutil

import numpy as np
import pytest

from datamodules.brain_tumor import BrainTumorDataModule, original_name
from datamodules.formats.rle import decode_rle


def module(root, tmp_path, **more):
    return BrainTumorDataModule(
        root=str(root), cache_dir=str(tmp_path / "cache"), image_size=64, **more
    )


def test_the_phantoms_warts_are_counted(export, tmp_path):
    data = module(export, tmp_path, cleaned_dir=str(tmp_path / "cleaned"))
    rows = data.table.rows
    cleaning = data.cleaning
    assert cleaning["exact duplicate annotation: dropped"] == 3  # one in each split
    assert cleaning["image without annotation: dropped"] == 2 + 2 + 2
    assert cleaning["polygon up to 2 px outside the image: clipped"] >= 3
    assert cleaning["copy of an original that is also in test or val: dropped"] == 1
    assert cleaning["category without annotations: ignored"] == 3
    assert (rows.groupby("group")["split"].nunique() == 1).all() and rows["id"].is_unique
    for split in ("train", "val", "test"):
        cleaned = json.loads(
            (tmp_path / "cleaned" / split / "_annotations.coco.cleaned.json").read_text()
        )
        assert {image["id"] for image in cleaned["images"]} == {
            a["image_id"] for a in cleaned["annotations"]
        }
        assert [category["id"] for category in cleaned["categories"]] == [1]


def test_parts_are_merged_into_one_mask_and_counted(export, tmp_path):
    root = tmp_path / "parts"
    shutil.copytree(export, root)
    path = root / "train/_annotations.coco.json"
    content = json.loads(path.read_text())
    first = content["annotations"][1]
    second = first | {"id": 1000, "segmentation": [[2, 2, 8, 2, 8, 6, 2, 6]]}
    path.write_text(json.dumps(content | {"annotations": [*content["annotations"], second]}))
    data, plain = module(root, tmp_path), module(export, tmp_path)
    name = next(
        image["file_name"] for image in content["images"] if image["id"] == first["image_id"]
    )
    with_part, without = (
        decode_rle(d.table.rles(d.table.rows["id"].tolist().index(f"train/{name}")), 96, 96)[..., 0]
        for d in (data, plain)
    )
    assert with_part[2:6, 2:8].all() and np.array_equal(with_part[7:], without[7:])
    reason = "lesion in several parts: merged into one mask"
    assert data.cleaning[reason] == plain.cleaning[reason] + 1


def test_unannotated_images_may_be_negatives(export, tmp_path):
    rows = module(export, tmp_path, unannotated="negative").table.rows
    assert (rows["stratum"] == "none").sum() == 6


def test_boxes_may_be_filled(export, tmp_path):
    root = tmp_path / "boxes"
    shutil.copytree(export, root)
    path = root / "test/_annotations.coco.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = []
    path.write_text(json.dumps(content))
    data = module(root, tmp_path, boxes="fill")
    assert data.table.where("test").size > 0 and data.cleaning[
        "box without outline: filled"
    ] == len(content["annotations"])


def test_val_folder_by_either_name_and_a_new_split_by_original(export, tmp_path):
    root = tmp_path / "renamed"
    shutil.copytree(export, root)
    (root / "valid").rename(root / "val")
    rows = module(root, tmp_path, split="group").table.rows
    assert (
        set(rows["split"]) == {"train", "val", "test"}
        and (rows.groupby("group")["split"].nunique() == 1).all()
    )
    assert original_name("y289_jpg.rf.003b28.jpg") == "y289_jpg"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_best_brightness_threshold_finds_little(export, tmp_path, split):
    data = module(export, tmp_path)
    rows = data.table.where(split)
    images, masks = data.cache.images[rows][..., 0], data.cache.masks[rows][..., 0].astype(bool)

    def dice(threshold):
        above = images > threshold
        return np.mean(2 * (above & masks).sum((1, 2)) / (above.sum((1, 2)) + masks.sum((1, 2))))

    assert max(dice(threshold) for threshold in range(0, 250, 10)) < 0.3
