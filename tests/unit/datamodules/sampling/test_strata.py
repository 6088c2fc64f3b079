"""Tests of strata against hand computations, with quartiles from train alone."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.errors import UserError
from datamodules.formats.mask_images import read_mask
from datamodules.pneumothorax import PneumothoraxDataModule
from datamodules.sampling.config import SamplingConfig
from datamodules.sampling.strata import (
    NO_LESION,
    QUARTILES,
    area_quartiles,
    compute_strata,
)


def test_strata_by_hand():
    area = np.array([0, 4, 1, 2, 3, 100, 0.5, 0, 50])
    train = np.array([True, True, True, True, True, False, False, False, False])
    q1, q2, q3, q4 = QUARTILES  # the edges of 1, 2, 3, 4 are 1.75, 2.5, 3.25
    assert area_quartiles(area, train).tolist() == [
        NO_LESION,
        q4,
        q1,
        q2,
        q3,
        q4,
        q1,
        NO_LESION,
        q4,
    ]
    assert area_quartiles(np.array([0.0, 3.0]), np.array([True, False])).tolist() == [NO_LESION, q4]


def test_quartiles_are_those_of_train_alone(layouts, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(layouts["png"], root)

    def looked_at():
        made = PneumothoraxDataModule(
            root=str(root), cache_dir=str(tmp_path / "cache"), image_size=64, split="folders"
        )
        share = np.array(
            [read_mask(mask).mask.mean() for mask in map(Path, made.table.rows["mask"])]
        )
        return made.table.rows, share, compute_strata(made.table, made.cache)

    rows, share, names = looked_at()
    of_train = share[(rows["split"] == "train") & (share > 0)]
    expected = np.array(QUARTILES)[(share[:, None] > np.percentile(of_train, [25, 50, 75])).sum(1)]
    assert names.tolist() == np.where(share > 0, expected, NO_LESION).tolist()
    for mask in rows["mask"][(rows["split"] != "train") & (share > 0)]:
        cv2.imwrite(mask, np.full((64, 64), 255, np.uint8))
    again, larger, after = looked_at()
    train = rows["split"] == "train"
    assert (
        again["split"].tolist() == rows["split"].tolist()
        and (larger[~train & (share > 0)] == 1).all()
    )
    assert (after[train] == names[train]).all() and set(after[~train & (share > 0)]) == {
        QUARTILES[3]
    }


def test_few_negatives_are_kept_in_train_alone_and_always_the_same(thorax, tmp_path):
    def data(share, seed=0):
        sampling = SamplingConfig(negative_fraction=share)
        module = PneumothoraxDataModule(
            root=str(thorax),
            cache_dir=str(tmp_path),
            image_size=64,
            split="group",
            seed=seed,
            sampling=sampling,
        )
        return module, module.pool

    whole, all_rows = data(1.0)
    few, kept = data(0.25)
    negatives = int((~all_rows.positive).sum())
    assert (
        int(kept.positive.sum()) == int(all_rows.positive.sum())
        and abs(int((~kept.positive).sum()) - 0.25 * negatives) <= 0.5
    )
    assert set(kept.rows) < set(all_rows.rows) and np.array_equal(kept.rows, data(0.25)[1].rows)
    assert not np.array_equal(data(0.25, seed=1)[1].rows, kept.rows)
    for split in ("val", "test"):
        assert np.array_equal(whole.table.where(split), few.table.where(split))
    inside = np.asarray(few.cache.areas)[kept.rows].sum(0)
    assert np.array_equal(few.pixels, np.stack([len(kept.rows) * 64 * 64 - inside, inside], 1))
    assert data(0.0)[1].positive.all()


@pytest.mark.parametrize(
    "words",
    [
        {"negative_fraction": 1.5},
        {"oversample_positives": 0},
        {"oversample_positives": 2.0, "positive_fraction": 0.5},
    ],
)
def test_shares_that_cannot_be_are_refused(words):
    with pytest.raises(UserError, match="|".join(words)):
        SamplingConfig(**words)
