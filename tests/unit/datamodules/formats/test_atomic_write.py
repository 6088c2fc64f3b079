"""Tests of files that are replaced as a whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from datamodules.formats.atomic_write import (
    atomic_write,
    copy_atomic,
    open_atomic,
    remove_unfinished,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    atomic_write(path, b"first")
    with pytest.raises(OSError, match="full"), open_atomic(path) as file:
        file.write(b"sec")
        raise OSError("full")
    assert path.read_bytes() == b"first" and names(tmp_path) == ["a.json"]


def test_the_content_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    events = []
    for name in ("fsync", "replace", "rename"):
        own = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, own=own, name=name: (events.append(name), own(*args))[1]
        )
    atomic_write(tmp_path / "a.json", b"x")
    assert events in (["fsync", "replace", "fsync"], ["fsync", "rename", "fsync"])


def test_a_copy_replaces_its_target_as_a_whole(tmp_path):
    (tmp_path / "a").write_bytes(b"new" * 1_000_000)
    (tmp_path / "b").write_bytes(b"old")
    copy_atomic(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"new" * 1_000_000
    with pytest.raises(FileNotFoundError):
        copy_atomic(tmp_path / "none", tmp_path / "b")
    assert names(tmp_path) == ["a", "b"]


def test_what_a_killed_process_left_is_removed_and_nothing_of_the_user(tmp_path):
    program = (
        "import os, pathlib, sys; from datamodules.formats.atomic_write import open_atomic\n"
        "with open_atomic(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "metrics.csv"
    target.write_bytes(b"whole")
    subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    own = [".hidden", ".run.lock", "a.123", f".mine.{os.getpid()}", ".folder.12"]
    for name in own[:-1]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / own[-1]).mkdir()
    assert len(names(tmp_path)) == 7
    remove_unfinished(tmp_path)
    assert names(tmp_path) == sorted([*own, "metrics.csv"])
    assert target.read_bytes() == b"whole"
