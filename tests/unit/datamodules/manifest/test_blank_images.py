"""Tests of images that show nothing.

Non-finite pixels are refused; images of nearly one gray value are counted, and refused if most are.
"""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datamodules.errors import ManifestError
from datamodules.folder import FolderDataModule
from datamodules.formats.image_io import read_image
from datamodules.preparation.inspect import check_dataset
from datamodules.table import TableDataModule

N = 10
SPLITS = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
REASON = "image of nearly one gray value"


def noise(number):
    return np.random.default_rng(number).integers(0, 256, (64, 64)).astype(np.uint8)


def hot_pixel():
    wide = np.random.default_rng(9).integers(1000, 1100, (64, 64)).astype(np.uint16)
    wide[5, 5] = 65535
    return wide


BLANK = {
    "one value": np.full((64, 64), 90, np.uint8),
    "three values": np.random.default_rng(1).integers(100, 103, (64, 64)).astype(np.uint8),
    "16 bits of one value": np.full((64, 64), 1200, np.uint16),
    "one color": np.full((64, 64, 3), (200, 10, 10), np.uint8),
}


def write(root, blank, picture):
    """N images, of which the first `blank` show nothing."""
    root.mkdir()
    for n in range(N):
        Image.fromarray(picture if n < blank else noise(n)).save(root / f"{n}.png")
    rows = [
        {"id": f"i{n}", "image": f"{n}.png", "label": n % 2, "group": f"p{n}", "split": split}
        for n, split in enumerate(SPLITS)
    ]
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    return root


def table(root, **more):
    return TableDataModule(
        root=str(root), cache_dir=str(root.parent / "cache"), image_size=64, num_workers=0, **more
    )


def folder(root, **more):
    return FolderDataModule(
        root=str(root),
        cache_dir=str(root.parent / "cache"),
        image_size=64,
        num_workers=0,
        classes=["lesion"],
        **more,
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("make", [table, folder])
@pytest.mark.parametrize("kind", BLANK)
def test_some_are_counted_also_when_the_cache_is_reused(kind, make, channels, tmp_path):
    root = write(tmp_path / "data", 5, BLANK[kind])
    for _ in range(2):
        data = make(root, channels=channels)
        data.prepare_data()
        found = data.cleaning.as_dict()[REASON]
        assert found["count"] == 5 and found["examples"] == [
            f"i{n}" if make is table else str(n) for n in range(5)
        ]
    assert (
        make is folder
        or check_dataset(table(root, channels=channels))["cleaning"][REASON]["count"] == 5
    )


@pytest.mark.parametrize("make", [table, folder])
def test_most_are_refused(make, tmp_path):
    root = write(tmp_path / "data", 6, BLANK["16 bits of one value"])
    said = (
        rf"{root}: 6 of 10 images show nearly one gray value, such as {root}/0\.png; check"
        r" datamodule\.window"
    )
    for _ in range(2):
        with pytest.raises(ManifestError, match=said):
            make(root).prepare_data()
    if make is table:
        with pytest.raises(ManifestError, match=said):
            check_dataset(table(root))


@pytest.mark.parametrize("make", [table, folder])
def test_a_single_bright_pixel_no_longer_darkens_its_image(make, tmp_path):
    data = make(write(tmp_path / "data", 5, hot_pixel()))
    data.prepare_data()
    low, high = data.display_window()
    assert 1000 <= low <= 1001 and 1098 <= high <= 1100 and not data.cleaning[REASON]
    shown = data.cache.image(0, data.display_window())[..., 0]
    inside = ((hot_pixel() - low) / (high - low)).clip(0, 1) * 255
    assert np.abs(shown - inside).max() <= 0.5


def test_what_is_nearly_one_gray_value():
    from datamodules.formats.image_io import is_nearly_uniform

    picture = np.full((100, 100, 1), 50, np.uint8)
    picture[:50] = 52
    assert is_nearly_uniform(picture)
    picture[0, :9] = 255  # 9 of 10,000: less than 0.1 %
    assert is_nearly_uniform(picture)
    picture[0, :11] = 255
    assert not is_nearly_uniform(picture)
    picture[0], picture[:50] = 50, 53
    assert not is_nearly_uniform(picture)
    assert is_nearly_uniform(
        np.dstack([np.full((9, 9), value, np.uint8) for value in (0, 90, 250)])
    )
    assert not is_nearly_uniform(np.dstack([np.zeros((64, 64), np.uint8), noise(0), noise(0)]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_picture_with_one_pixel_that_is_no_number_is_refused(value, tmp_path):
    root = write(tmp_path / "data", 0, None)
    pixels = noise(3).astype(np.float32)
    pixels[7, 9] = value
    Image.fromarray(pixels).save(root / "3.tif")
    (root / "3.png").unlink()
    (root / "manifest.csv").write_text(
        (root / "manifest.csv").read_text().replace("3.png", "3.tif")
    )
    said = (
        r"3\.tif holds 1 pixel that is NaN or infinite; write finite numbers there, or take the"
        r" file out"
    )
    for check in (
        lambda: table(root).prepare_data(),
        lambda: check_dataset(table(root)),
    ):
        with pytest.raises(ManifestError, match=said):
            check()
    data = folder(root)  # predictions continue without it
    data.prepare_data()
    assert list(data.unreadable) == ["3"] and re.search(said, data.unreadable["3"])


def test_a_finite_float_picture_is_read_as_it_was(tmp_path):
    Image.fromarray(noise(3).astype(np.float32) * 7 - 100).save(tmp_path / "a.tif")
    gray = noise(3).astype(np.float32)
    assert (
        np.abs(
            read_image(tmp_path / "a.tif", 1)[..., 0]
            - (gray - gray.min()) * 255 / (gray.max() - gray.min())
        ).max()
        <= 0.51
    )
