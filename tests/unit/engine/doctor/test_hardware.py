"""Tests of cores, memory, shared memory and open files on healthy and limited machines."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from engine.doctor import hardware
from tests.unit.engine.doctor.conftest import STOPS, WARNS, Usage, config, only, write


def test_limits_of_control_groups_are_those_of_the_strictest_group_above(tmp_path):
    second = write(
        tmp_path / "v2",
        {
            "own": "0::/user/job\n",
            "user/job/cpu.max": "max 100000",
            "user/job/memory.max": "8000000000",
        },
    )
    write(second, {"user/cpu.max": "250000 100000", "user/memory.max": "max"})
    assert hardware.cgroup_limits(second, second / "own") == hardware.CgroupLimits(
        2.5, 8_000_000_000
    )
    first = write(
        tmp_path / "v1", {"own": "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n"}
    )  # the host's path, not there inside
    write(
        first,
        {
            "cpu/cpu.cfs_quota_us": "150000",
            "cpu/cpu.cfs_period_us": "100000",
            "memory/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    assert hardware.cgroup_limits(first, first / "own") == hardware.CgroupLimits(1.5, None)
    write(first, {"cpu/cpu.cfs_quota_us": "-1", "memory/memory.limit_in_bytes": "4000"})
    assert hardware.cgroup_limits(first, first / "own") == hardware.CgroupLimits(None, 4000)
    assert hardware.cgroup_limits(first, first / "nothing") == hardware.CgroupLimits()


def test_a_quota_below_the_cores_is_told_unless_torch_keeps_to_it(plain, monkeypatch):
    monkeypatch.setattr(hardware, "allowed_cores", lambda: 16)
    monkeypatch.setattr(hardware, "cgroup_limits", lambda: hardware.CgroupLimits(cores=4.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr("datamodules.base.default_num_workers", lambda: 3)
    only(
        hardware.check_cores(plain),
        WARNS,
        "quota is 4 cores' worth of time, but 16 cores",
        "OMP_NUM_THREADS=4 and datamodule.num_workers=3",
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert not hardware.check_cores(plain).issues
    more = config("datamodule.num_workers=9")
    only(
        hardware.check_cores(more),
        WARNS,
        "datamodule.num_workers=9 is more than the 4 cores",
        "datamodule.num_workers=3",
    )
    monkeypatch.setattr(hardware, "cgroup_limits", hardware.CgroupLimits)
    assert not hardware.check_cores(more).issues


@pytest.mark.parametrize(("free", "severity"), [(0.5e9, STOPS), (3e9, WARNS), (20e9, None)])
def test_memory(free, severity, plain, monkeypatch):
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(total=int(32e9), available=int(free))
    )
    answer = hardware.check_memory(plain)
    assert [finding.severity for finding in answer.issues] == ([severity] if severity else [])
    monkeypatch.setattr(hardware, "cgroup_limits", lambda: hardware.CgroupLimits(memory=int(0.9e9)))
    only(
        hardware.check_memory(plain),
        STOPS,
        "MB of memory are available",
        "lower datamodule.batch_size",
    )


def test_shared_memory_is_held_against_what_the_workers_need(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda place: Usage(64e6, 0, 64e6))
    asked = config("datamodule.num_workers=4")
    # image and mask of 640 x 640 pixels, 16 per batch, 4 batches ready in each of 4 workers,
    # for train and for val
    assert (
        hardware.check_shared_memory(asked).values["loader_needs_bytes"]
        == 640 * 640 * 2 * 16 * 4 * 4 * 2
    )
    only(
        hardware.check_shared_memory(asked),
        STOPS,
        "64 MB free of 64 MB, where 4 loader workers need up to 419 MB",
        "--shm-size=8g",
    )
    assert not hardware.check_shared_memory(config("datamodule.num_workers=0")).issues
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda place: Usage(8e9, 0, 8e9))
    assert not hardware.check_shared_memory(asked).issues
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda place: Usage(0.9e9, 0, 0.9e9))
    only(hardware.check_shared_memory(asked), WARNS, "900 MB", "datamodule.num_workers=0")
    monkeypatch.setattr(hardware, "SHARED_MEMORY", tmp_path / "none")
    assert not hardware.check_shared_memory(asked).issues


def test_open_files(plain, monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 2048))
    only(hardware.check_open_files(plain), WARNS, "at most 256 files", "ulimit -n 2048")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (4096, 4096))
    assert not hardware.check_open_files(plain).issues
    monkeypatch.setattr(
        resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    assert not hardware.check_open_files(plain).issues
