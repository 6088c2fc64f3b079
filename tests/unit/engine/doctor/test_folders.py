"""Tests of disk space, unwritable folders and missing data sets, with no files left behind."""

import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from engine.doctor import environment
from engine.doctor.check_result import CheckResult
from tests.conftest import folder_hash
from tests.unit.engine.doctor.conftest import STOPS, WARNS, Usage, only, write


@pytest.mark.parametrize(("free", "severity"), [(0.5e9, STOPS), (5e9, WARNS), (200e9, None)])
@pytest.mark.parametrize("name", ["cache", "runs"])
def test_room_on_the_disk(name, free, severity, plain, monkeypatch, tmp_path):
    asked = OmegaConf.merge(plain, {"paths": {name: str(tmp_path / "not" / "yet")}})
    before = folder_hash(tmp_path)
    monkeypatch.setattr(
        environment.shutil,
        "disk_usage",
        lambda place: Usage(1e12, 0, free) if place == tmp_path else None,
    )
    answer = {"cache": environment.check_cache_folder, "runs": environment.check_runs_folder}[name](
        asked
    )
    assert folder_hash(tmp_path) == before
    if severity:
        only(
            answer,
            severity,
            f"paths.{name}={tmp_path}/not/yet is nearly full",
            f"set paths.{name}=... to another disk",
        )
    else:
        assert not answer.issues


def test_a_folder_that_cannot_be_written(plain, tmp_path):
    (tmp_path / "file").write_text("")
    answer = environment.check_cache_folder(
        OmegaConf.merge(plain, {"paths": {"cache": str(tmp_path / "file" / "cache")}})
    )
    only(answer, STOPS, "cannot be written (Not a directory)", "set paths.cache=...")


def test_the_data_set(plain, monkeypatch, tmp_path):
    monkeypatch.delenv("DATA_ROOT", raising=False)

    def look(root: Path, phantom: object = None) -> CheckResult:
        return environment.check_data_folder(
            OmegaConf.merge(plain, {"datamodule": {"root": str(root), "phantom": phantom}})
        )

    only(look(tmp_path / "none"), STOPS, "is not a folder", "set DATA_ROOT")
    assert not look(tmp_path / "none", {"_target_": "x"}).issues
    only(look(tmp_path), STOPS, "is an empty folder", "put the data set there")
    write(tmp_path, {"a/1.png": "", "a/2.png": "", "b.json": ""})
    assert look(tmp_path).values["files"] == 3 and not look(tmp_path).issues
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "b.json"))
    only(look(tmp_path), WARNS, "b.json is not a folder", "correct it")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    only(look(tmp_path), STOPS, "cannot be read by this user", "read access")
