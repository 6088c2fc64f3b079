"""Tests of the folder of all caches: full and failing disks, and what ended processes left."""

import errno
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from datamodules.errors import UserError
from datamodules.formats import row_files
from datamodules.formats.rle import encode_rle
from datamodules.loading import cache_folder
from datamodules.loading.cache_builder import build_cache
from datamodules.manifest.manifest import Manifest
from tests.factories.optional import need_permissions


@pytest.fixture
def manifest(tmp_path):
    random, rows = np.random.default_rng(0), []
    for i in range(4):
        depth = np.uint16 if i == 3 else np.uint8
        image = random.integers(0, np.iinfo(depth).max, (40, 40), depth)
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        mask = (random.random((40, 40, 1)) < 0.5).astype(np.uint8)
        rows.append({"id": str(i), "image": str(tmp_path / f"{i}.png"), "mask": encode_rle(mask)})
    return Manifest(pd.DataFrame(rows), classes=("a",))


def refused(manifest: Manifest, folder: Path) -> str:
    """Return the sentence with which a build ends."""
    with pytest.raises(UserError) as caught:
        build_cache(manifest, 64, 1, folder)
    assert "\n" not in str(caught.value) and "paths.cache" in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)


@pytest.mark.parametrize("number", FAILURES, ids=errno.errorcode.get)
@pytest.mark.parametrize("function", ["posix_fallocate", "pwrite", "fsync"])
def test_a_disk_that_fails_at_any_call(manifest, tmp_path, monkeypatch, function, number):
    folder, own = tmp_path / "cache", getattr(os, function)
    calls, failing = 0, -1

    def call(*arguments):
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(number, os.strerror(number))
        return own(*arguments)

    monkeypatch.setattr(row_files.os, function, call)
    build_cache(manifest, 64, 1, tmp_path / "whole")
    for failing in range(1, calls + 1):  # noqa: B007 - read by `call`
        calls = 0
        sentence = refused(manifest, folder)
        assert names(folder) == []
        if number in (errno.ENOSPC, errno.EDQUOT):
            assert "the image cache needs" in sentence and " MB" in sentence
    calls = -1_000_000
    assert len(build_cache(manifest, 64, 1, folder).images) == 4


def test_a_limit_of_the_size_of_files(manifest, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        assert "ulimit -f" in refused(manifest, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path / "cache") == []


def test_a_file_system_that_cannot_allocate_is_filled_with_zeros(manifest, tmp_path, monkeypatch):
    expected = build_cache(manifest, 64, 1, tmp_path / "one")

    def refuse(*arguments):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(row_files.os, "posix_fallocate", refuse)
    found = build_cache(manifest, 64, 1, tmp_path / "two")
    assert np.array_equal(found.images, expected.images)
    monkeypatch.delattr(row_files.os, "posix_fallocate")
    found = build_cache(manifest, 64, 1, tmp_path / "three")
    assert np.array_equal(found.images, expected.images)


@pytest.mark.parametrize("least", [0, 1_000])
def test_the_space_is_checked_first_with_all_that_is_written(
    manifest, tmp_path, monkeypatch, least
):
    cache = build_cache(manifest, 64, 1, tmp_path / "whole")
    size = sum(path.stat().st_size for path in cache.folder.iterdir())
    usage = type("Usage", (), {"free": size - 4 * 64 * 64 * 3 + least})  # without deep images
    monkeypatch.setattr(cache_folder.shutil, "disk_usage", lambda place: usage)
    assert "MB free, but the image cache needs" in refused(manifest, tmp_path / "cache")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.write_text(""), "is in the way"),
        (lambda folder: folder.symlink_to(folder), "is in the way"),
        (lambda folder: folder.symlink_to("nothing"), "is in the way"),
    ],
)
def test_a_folder_that_cannot_be_one(manifest, tmp_path, make, words):
    make(tmp_path / "cache")
    assert words in refused(manifest, tmp_path / "cache")


def test_a_folder_below_a_file_and_a_name_that_is_too_long(manifest, tmp_path):
    assert "file where a folder" in refused(manifest, tmp_path / "0.png" / "cache")
    assert "too long" in refused(manifest, tmp_path / ("x" * 300))


def test_a_folder_of_another_user(manifest, tmp_path):
    need_permissions()
    (tmp_path / "cache").mkdir(mode=0o500)
    assert "may not read or write" in refused(manifest, tmp_path / "cache")


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(folder: Path, name: str, age: float = 0) -> Path:
    """Make an unfinished folder or file as a process leaves it."""
    path = folder / name
    folder.mkdir(exist_ok=True)
    if name.startswith("images") and name.endswith(".tmp"):
        path.mkdir()
        (path / "images.npy").write_bytes(b"1")
    else:
        path.write_bytes(b"1")
    for each in (*(path.iterdir() if path.is_dir() else ()), path):
        os.utime(each, (time.time() - age,) * 2)
    return path


def test_what_ended_processes_left_is_deleted(manifest, tmp_path):
    folder, host = tmp_path / "cache", platform.node()
    build_cache(manifest, 64, 1, folder)
    before = names(folder)
    leave(folder, f"images-0123.{host}.{ended_process()}.tmp")
    leave(folder, "images-4567.elsewhere.77.tmp", age=4000)
    leave(folder, "images-89ab.88.tmp", age=4000)  # of an earlier version
    leave(folder, "images-89ab.lock")
    leave(folder, ".mask-values-1.kept.77", age=4000)
    build_cache(manifest, 64, 1, folder)
    assert names(folder) == before


def test_what_may_be_in_use_is_not(manifest, tmp_path):
    folder, host = tmp_path / "cache", platform.node()
    kept = [
        leave(folder, f"images-0123.{host}.{os.getpid()}.tmp"),  # its process lives
        leave(folder, "images-4567.elsewhere.77.tmp", age=100),  # another machine writes
        leave(folder, f"images-89ab.{host}.{ended_process()}.tmp", age=4000),  # locked below
        leave(folder, ".mask-values-1.kept.77", age=100),
        leave(folder, "phantoms.lock"),
    ]
    with FileLock(folder / "images-89ab.lock"):
        build_cache(manifest, 64, 1, folder)
        assert set(names(folder)) >= {*(path.name for path in kept), "images-89ab.lock"}


def test_a_system_that_cannot_read_and_write_at_a_position(manifest, tmp_path, monkeypatch):
    expected = build_cache(manifest, 64, 1, tmp_path / "one")
    for name in ("pread", "pwrite", "posix_fallocate"):
        monkeypatch.delattr(row_files.os, name)
    found = build_cache(manifest, 64, 1, tmp_path / "two")
    assert np.array_equal(found.images, expected.images)
    assert np.array_equal(found.truth(1, 1), expected.truth(1, 1))


WAIT = """
import sys, time
from pathlib import Path
from datamodules.loading.cache_folder import build_lock
place = Path(sys.argv[1])
for turn in range(30):
    with build_lock(place) as locked:
        assert locked
        inside = place.with_suffix(".inside")
        inside.touch(exist_ok=False)  # fails if another process is inside
        time.sleep(0.002)
        inside.unlink()
"""


def test_a_lock_whose_file_is_deleted_at_its_end_still_keeps_others_out(tmp_path):
    place = tmp_path / "images-0123"
    processes = [subprocess.Popen([sys.executable, "-c", WAIT, place]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert names(tmp_path) == []


def test_without_locks_it_is_built_all_the_same(manifest, tmp_path, monkeypatch):
    def refuse(*arguments, **more):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cache_folder.FileLock, "acquire", refuse)
    assert len(build_cache(manifest, 64, 1, tmp_path / "cache").images) == 4
    assert len(names(tmp_path / "cache")) == 1


BUILD = """
import sys, time
from pathlib import Path
from datamodules.loading import cache_builder
from datamodules.manifest.manifest import read_manifest
if len(sys.argv) > 3:
    cache_builder.load_view = lambda *a: (print("decodes", flush=True), time.sleep(60))
cache_builder.build_cache(read_manifest(Path(sys.argv[1])), 64, 1, Path(sys.argv[2]))
"""


def test_a_killed_build_is_swept_by_the_next_one(manifest, tmp_path):
    table, folder = manifest.write(tmp_path / "table.csv"), tmp_path / "cache"
    words = [sys.executable, "-c", BUILD, str(table), str(folder)]
    process = subprocess.Popen([*words, "slow"], stdout=subprocess.PIPE)
    assert process.stdout and b"decodes" in process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    assert any(name.endswith(".tmp") for name in names(folder))
    subprocess.run(words, check=True, capture_output=True)
    assert len(names(folder)) == 1 and not names(folder)[0].endswith(".tmp")
