"""Tests of the cache: it decodes an image once, notices changed files and is private."""

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules.errors import ManifestError, UserError
from datamodules.formats.image_io import ImageReader
from datamodules.formats.rle import encode_rle
from datamodules.loading import cache_folder
from datamodules.loading.cache_builder import build_cache
from datamodules.manifest.manifest import Manifest


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for i in range(4):
        image = np.full((20, 30 + i), 10 * i, np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        mask = np.zeros((*image.shape, 2), np.uint8)
        mask[2 : 4 + i, 3:9, 0] = 1
        rows.append({"id": str(i), "image": str(tmp_path / f"{i}.png"), "mask": encode_rle(mask)})
    return Manifest(pd.DataFrame(rows), classes=("a", "b"))


def test_a_second_build_decodes_nothing(manifest, tmp_path, monkeypatch):
    first = build_cache(manifest, 64, 1, tmp_path / "cache")
    monkeypatch.setattr(ImageReader, "read", lambda *a: pytest.fail("decoded again"))
    second = build_cache(manifest, 64, 1, tmp_path / "cache")
    assert np.array_equal(first.images, second.images)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_truth_comes_back_at_the_image_s_own_size(manifest, tmp_path):
    cache = build_cache(manifest, 64, 1, tmp_path / "cache")
    for i in range(4):
        truth = cache.truth(i, 2)
        assert (
            truth.shape == (20, 30 + i, 2)
            and truth[..., 0].sum() == (2 + i) * 6
            and truth[..., 1].sum() == 0
        )
    assert (
        cache.images[2, 30, 30, 0] == 20 and cache.images[2, 0, 0, 0] == 0
    )  # inside the picture, and the padding above it


def test_a_changed_file_is_read_again(manifest, tmp_path):
    before = build_cache(manifest, 64, 1, tmp_path / "cache").folder
    cv2.imwrite(manifest.rows["image"][0], np.full((20, 30), 99, np.uint8))
    after = build_cache(manifest, 64, 1, tmp_path / "cache")
    assert after.folder != before and after.images[0, 32, 32, 0] == 99


def test_a_changed_mask_is_read_again(manifest, tmp_path):
    before = build_cache(manifest, 64, 1, tmp_path / "cache").folder
    mask = np.zeros((20, 30, 2), np.uint8)
    mask[5:9, 5:9, 1] = 1
    manifest.rows.at[0, "mask"] = encode_rle(mask)
    after = build_cache(manifest, 64, 1, tmp_path / "cache")
    assert after.folder != before and after.areas[0].tolist() == [0, 16]


def test_nothing_half_built_stays(manifest, tmp_path):
    (tmp_path / "2.png").write_bytes(b"broken")
    with pytest.raises(ManifestError, match=r"2\.png"):
        build_cache(manifest, 64, 1, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_full_disk_is_said_before_anything_is_written(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(
        cache_folder.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})()
    )
    with pytest.raises(UserError, match=r"set paths\.cache"):
        build_cache(manifest, 64, 1, tmp_path / "cache")
