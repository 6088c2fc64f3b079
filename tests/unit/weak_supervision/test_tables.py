"""Tests of a segmenter's tables: the masks and labels they hold and the images they leave out."""

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules.formats.rle import decode_rle, encode_rle
from datamodules.loading.letterbox import Letterbox
from datamodules.manifest.manifest import Manifest, read_manifest
from weak_supervision.pipeline import ImageInfo, PseudoLabel
from weak_supervision.tables import (
    build_box_table,
    build_image_table,
    build_segmentation_manifest,
    select_pseudo_mask,
    select_true_mask,
)

BOX = Letterbox(8, 4, (16, 16))
RLE = encode_rle(np.ones((8, 4, 1), np.uint8))[0]


@pytest.fixture
def table(tmp_path) -> Manifest:
    """Two images per label and split; normal ones have empty true masks, `test1b` has none."""
    rows = []
    for split in ("train", "val", "test"):
        for label in (0, 1):
            for letter in "ab":
                id, path = f"{split}{label}{letter}", tmp_path / f"{split}{label}{letter}m.png"
                cv2.imwrite(str(path), np.full((8, 4), 255 * label, np.uint8))
                mask = None if id == "test1b" else str(path)
                rows.append(
                    {
                        "id": id,
                        "image": f"{id}.png",
                        "split": split,
                        "label": [1 - label, label],
                        "true_mask": mask,
                    }
                )
    return Manifest(pd.DataFrame(rows).assign(square=None), ("other", "finding"), "patient")


def found(table: Manifest) -> list[PseudoLabel]:
    """The chain kept a mask of every abnormal image but those called b."""
    images = [
        (id, split, label[1])
        for id, split, label in zip(
            table.rows["id"], table.rows["split"], table.rows["label"], strict=True
        )
    ]
    return [
        PseudoLabel(
            ImageInfo(id, split, label, BOX),
            0.7,
            bool(label),
            mask=RLE if label and id.endswith("a") else None,
        )
        for id, split, label in images
    ]


def test_pseudo_masks_train_and_true_masks_judge(table, tmp_path):
    build_segmentation_manifest(table, found(table), select_pseudo_mask, "finding").write(
        tmp_path / "manifest.csv"
    )
    manifest = read_manifest(tmp_path / "manifest.csv")
    kinds = dict(zip(manifest.rows["id"], manifest.rows["mask_is"], strict=True))
    assert manifest.classes == ("finding",) and "square" not in manifest.rows
    assert {id for id, kind in kinds.items() if kind == "pseudo mask"} == {"train1a", "val1a"}
    assert {id for id, kind in kinds.items() if kind == "normal by label"} == {
        "train0a",
        "train0b",
        "val0a",
        "val0b",
    }
    assert {id: kind for id, kind in kinds.items() if id.startswith("test")} == {
        "test0a": "no lesion",
        "test0b": "no lesion",
        "test1a": "true mask",
    }
    assert manifest.rows.set_index("id")["label"].loc[["train0a", "train1a"]].tolist() == [
        0,
        1,
    ], "of the one class alone"
    mask = manifest.rows.set_index("id")["mask"]
    assert (
        decode_rle(mask["train1a"], 8, 4).all()
        and mask["test0a"] is None
        and manifest.rles(manifest.rows["id"].tolist().index("test1a"))
    )


def test_true_masks_throughout_leave_out_what_nobody_drew(table):
    rows = build_segmentation_manifest(table, found(table), select_true_mask, "finding").rows
    assert set(table.rows["id"]) - set(rows["id"]) == {"test1b"}
    assert (
        set(rows["mask_is"][rows["label"] == 1]) == {"true mask"}
        and rows["mask"][rows["label"] == 0].isna().all()
    )


def test_without_true_masks_test_has_pseudo_masks_too(table):
    plain = Manifest(table.rows.drop(columns="true_mask"), table.classes)
    kinds = build_segmentation_manifest(
        plain, found(table), select_pseudo_mask, "finding"
    ).rows.set_index("id")["mask_is"]
    assert (
        kinds["test1a"] == "pseudo mask"
        and "test1b" not in kinds
        and kinds["test0a"] == "normal by label"
    )


def test_tables_without_any_box_have_their_heads(table):
    images = build_image_table(found(table), 0.5)
    assert (
        len(images) == 12
        and images["heat"].isna().all()
        and images["pad_left"].eq(4).all()
        and images["scale"].eq(2).all()
    )
    assert len(
        build_box_table(found(table), in_image_pixels=True)
    ) == 0 and "rejected" in build_box_table(found(table), in_image_pixels=True)
