"""Tests of samples, which follow from their keys, and of truth on the evaluation grid."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.augmentation import ElasticTransform, HorizontalFlip, Pipeline
from datamodules.formats.rle import encode_rle
from datamodules.image_size import SampleKey
from datamodules.loading.cache_builder import build_cache
from datamodules.loading.dataset import ManifestDataset, collate, sample_seed
from datamodules.manifest.manifest import Manifest


@pytest.fixture
def manifest(tmp_path):
    random, rows = np.random.default_rng(0), []
    for i, shape in enumerate([(100, 80), (60, 60)]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), random.integers(0, 255, shape, np.uint8))
        mask = np.zeros((*shape, 1), np.uint8)
        mask[20:50, 10:40] = 1
        rows.append({"id": str(i), "image": str(tmp_path / f"{i}.png"), "mask": encode_rle(mask)})
    return Manifest(pd.DataFrame(rows))


def dataset(manifest, **more):
    cache = build_cache(manifest, 64, 1, Path(manifest.rows["image"].iat[0]).parent / "cache")
    return ManifestDataset(cache, manifest, seed=5, **more)


ELASTIC = Pipeline({"flip": HorizontalFlip(), "elastic": ElasticTransform(p=1.0)})


def test_a_key_always_gives_the_same_sample_and_others_give_others(manifest):
    augmented = dataset(manifest, augmentation=ELASTIC)
    one, other_order = (
        augmented[SampleKey(0, 0, 0, 64)],
        dataset(manifest, augmentation=ELASTIC),
    )
    _ = other_order[SampleKey(1, 3, 0, 64)]
    assert torch.equal(one["image"], other_order[SampleKey(0, 0, 0, 64)]["image"])
    for key in (SampleKey(0, 1, 0, 64), SampleKey(0, 0, 1, 64)):
        assert not torch.equal(one["image"], augmented[key]["image"])


def test_seeds_of_nearby_keys_differ():
    seeds = {
        sample_seed(0, SampleKey(row, epoch, draw, 64))
        for row in range(50)
        for epoch in range(10)
        for draw in range(2)
    }
    assert len(seeds) == 1000


@pytest.mark.parametrize(("size", "shape"), [("native", (100, 80)), (64, (64, 51)), (32, (32, 26))])
def test_truth_on_each_grid(manifest, size, shape):
    sample = dataset(manifest, evaluation_size=size)[SampleKey(0, 0, 0, 64)]
    assert sample["truth"].shape == (1, *shape)
    share = 30 * 30 / (100 * 80)
    assert sample["truth"].float().mean().item() == pytest.approx(share, rel=0.06)
    assert sample["content"] == (0, 6, 64, 51)


def test_batches_of_different_sizes(manifest):
    evaluated = dataset(manifest, evaluation_size="native")
    batch = collate([evaluated[SampleKey(0, 0, 0, 64)], evaluated[SampleKey(1, 0, 0, 64)]])
    assert batch["image"].shape == (2, 1, 64, 64) and batch["image"].dtype == torch.uint8
    assert [tuple(truth.shape) for truth in batch["truth"]] == [(1, 100, 80), (1, 60, 60)]
    fixed = dataset(manifest, evaluation_size=64)
    assert collate([fixed[SampleKey(1, 0, 0, 64)]] * 2)["truth"].shape == (2, 1, 64, 64)


def test_a_key_may_ask_for_another_size(manifest):
    sample = dataset(manifest)[SampleKey(0, 0, 0, 32)]
    assert sample["image"].shape == sample["mask"].shape == (1, 32, 32) and set(
        sample["mask"].unique().tolist()
    ) == {0, 1}
