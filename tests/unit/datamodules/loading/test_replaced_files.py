"""Tests of sources: a file that is replaced in place is noticed, whatever its size and time."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from datamodules.errors import UserError
from datamodules.formats.file_stamp import file_stamp, value_files
from datamodules.formats.image_io import ImageReader
from datamodules.formats.mask_images import survey_masks
from datamodules.loading import cache_builder
from datamodules.loading.cache_builder import build_cache
from datamodules.manifest.manifest import Manifest


def write(path: Path, pixels: np.ndarray) -> None:
    cv2.imwrite(str(path), pixels)


def pad(path: Path, size: int) -> None:
    """Bring a file to a size, with bytes that no decoder reads."""
    path.write_bytes(path.read_bytes().ljust(size, b" "))


@pytest.fixture
def manifest(tmp_path):
    """One row of two channels in two files, two mask files and a true mask, all of 500 bytes."""
    names = ["image", "channel", "mask1", "mask2", "true"]
    for value, name in enumerate(names):
        picture = np.zeros((20, 20), np.uint8)
        picture[: 5 + value, :7] = 255
        write(tmp_path / f"{name}.png", picture)
        pad(tmp_path / f"{name}.png", 500)
    paths = [str(tmp_path / f"{name}.png") for name in names]
    row = {"id": "a", "image": paths[0], "channel_files": [paths[1]], "mask": paths[2:4]}
    return Manifest(pd.DataFrame([{**row, "true_mask": paths[4]}]), classes=("a",))


def overwrite(path: Path, new: bytes) -> None:
    path.write_bytes(new)


def delete_and_copy(path: Path, new: bytes) -> None:
    path.unlink()  # the next file often gets the same number
    path.write_bytes(new)


def rename_over(path: Path, new: bytes) -> None:
    path.with_suffix(".new").write_bytes(new)
    path.with_suffix(".new").replace(path)


def look(cache):
    return [cache.image(0, None), cache.mask(0, 1), cache.truth(0, 1), cache.true_areas]


@pytest.mark.parametrize("replace", [overwrite, delete_and_copy, rename_over])
@pytest.mark.parametrize("name", ["image", "channel", "mask1", "mask2", "true"])
def test_a_file_of_the_same_size_and_time(manifest, tmp_path, capsys, name, replace):
    before = look(build_cache(manifest, 32, 2, tmp_path / "cache"))
    path = tmp_path / f"{name}.png"
    status = path.stat()
    picture = np.full((20, 20), 255, np.uint8)
    picture[:3] = 0
    write(tmp_path / "other.png", picture)
    pad(tmp_path / "other.png", 500)
    replace(path, (tmp_path / "other.png").read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` and `rsync -t`
    assert path.stat().st_size == status.st_size and path.stat().st_mtime_ns == status.st_mtime_ns
    capsys.readouterr()
    after = look(build_cache(manifest, 32, 2, tmp_path / "cache"))
    assert not all(map(np.array_equal, before, after))
    said = capsys.readouterr().err
    assert "is stale" in said and f"{name}.png was replaced" in said and "rebuilt" in said


def test_other_owners_permissions_and_numbers_decode_nothing(manifest, tmp_path, monkeypatch):
    first = build_cache(manifest, 32, 2, tmp_path / "cache")
    (tmp_path / "image.png").chmod(0o600)  # a new time of change
    status = (tmp_path / "mask1.png").stat()
    rename_over(tmp_path / "mask1.png", (tmp_path / "mask1.png").read_bytes())  # a new number
    os.utime(tmp_path / "mask1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    monkeypatch.setattr(ImageReader, "read", lambda *a: pytest.fail("decoded again"))
    second = build_cache(manifest, 32, 2, tmp_path / "cache")
    assert second.folder == first.folder
    monkeypatch.setattr(cache_builder, "_hash_or_none", lambda *a: pytest.fail("compared again"))
    build_cache(manifest, 32, 2, tmp_path / "cache")


def test_a_file_that_changes_while_it_is_decoded(manifest, tmp_path, monkeypatch):
    own = cache_builder.load_view

    def load(*arguments):
        (tmp_path / "true.png").chmod(0o640)
        return own(*arguments)

    monkeypatch.setattr(cache_builder, "load_view", load)
    with pytest.raises(UserError, match=r"true\.png was changed while"):
        build_cache(manifest, 32, 2, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("a.mhd", "ElementDataFile = values.raw"),
        ("a.mhd", "ElementDataFile = parts/slice%02d.raw 1 2 1"),
        ("a.mhd", "ElementDataFile = LIST\nparts/slice01.raw\nparts/slice02.raw"),
        ("a.nhdr", "data file: values.raw"),
        ("a.nhdr", "data file: LIST\nvalues.raw"),
        ("a.nhdr", "datafile: ./values.raw"),
    ],
)
def test_the_values_of_a_detached_header(tmp_path, header, named):
    (tmp_path / "parts").mkdir()
    names = ["values.raw", "a.raw", "parts/slice01.raw", "parts/slice02.raw", "b.raw"]
    for name in names:
        (tmp_path / name).write_bytes(b"0")
    (tmp_path / header).write_text(f"NRRD0004\nObjectType = Image\n{named}\n")
    found = {
        path.resolve().relative_to(tmp_path).as_posix() for path in value_files(tmp_path / header)
    }
    expected = set(names[2:4]) if "slice" in named else {"values.raw"}
    assert found == expected | {"a.raw"}
    assert value_files(tmp_path / "values.raw") == []


def test_a_survey_of_masks_notices_it_too_and_a_damaged_one_is_made_again(tmp_path):
    path, cache = tmp_path / "mask.png", tmp_path / "cache"
    write(path, np.full((4, 4), 3, np.uint8))
    pad(path, 300)
    status = path.stat()
    assert survey_masks([path], cache)[path].values == (3,)
    write(path, np.full((4, 4), 5, np.uint8))
    pad(path, 300)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert survey_masks([path], cache)[path].values == (5,)
    for kept in cache.iterdir():
        kept.write_bytes(kept.read_bytes().replace(b"5", b"7"))
    assert survey_masks([path], cache)[path].values == (5,)


def test_a_copy_has_another_stamp(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    shutil.copy2(tmp_path / "a", tmp_path / "b")
    one, other = file_stamp(tmp_path / "a"), file_stamp(tmp_path / "b")
    assert one != other and one[:2] == other[:2]
