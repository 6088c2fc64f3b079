"""Strata by hand, and their quartiles from train alone."""

import shutil
from pathlib import Path

import cv2
import numpy as np

from datamodules.manifest import read_mask
from datamodules.pneumothorax import PneumothoraxDataModule
from datamodules.strata import NONE, QUARTILES, of_areas, strata


def test_strata_by_hand():
    area = np.array([0, 4, 1, 2, 3, 100, 0.5, 0, 50])
    train = np.array([True, True, True, True, True, False, False, False, False])
    q1, q2, q3, q4 = QUARTILES  # the edges of 1, 2, 3, 4 are 1.75, 2.5, 3.25
    assert of_areas(area, train).tolist() == [NONE, q4, q1, q2, q3, q4, q1, NONE, q4]
    assert of_areas(np.array([0.0, 3.0]), np.array([True, False])).tolist() == [NONE, q4]


def test_quartiles_are_those_of_train_alone(layouts, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(layouts["png"], root)

    def looked_at():
        made = PneumothoraxDataModule(root=str(root), cache_dir=str(tmp_path / "cache"), image_size=64, split="folders")
        share = np.array([read_mask(mask, 1).mean() for mask in map(Path, made.table.rows["mask"])])
        return made.table.rows, share, strata(made.table, made.cache)

    rows, share, names = looked_at()
    of_train = share[(rows["split"] == "train") & (share > 0)]
    expected = np.array(QUARTILES)[(share[:, None] > np.percentile(of_train, [25, 50, 75])).sum(1)]
    assert names.tolist() == np.where(share > 0, expected, NONE).tolist()
    for mask in rows["mask"][(rows["split"] != "train") & (share > 0)]:
        cv2.imwrite(mask, np.full((64, 64), 255, np.uint8))
    again, larger, after = looked_at()
    train = rows["split"] == "train"
    assert again["split"].tolist() == rows["split"].tolist() and (larger[~train & (share > 0)] == 1).all()
    assert (after[train] == names[train]).all() and set(after[~train & (share > 0)]) == {QUARTILES[3]}
