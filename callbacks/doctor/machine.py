"""Checks of the cores, memory, shared memory and open files that this process may really use."""

import math
import os
import shutil
import sys
from pathlib import Path

import psutil
import torch
from omegaconf import DictConfig

from callbacks.doctor.cgroup import cgroup_limits
from callbacks.doctor.finding import CheckResult, Issue, format_gigabytes
from datamodules.image_size import ImageSize
from datamodules.loaders import default_num_workers

SHARED_MEMORY = Path("/dev/shm")
PREFETCH_FACTOR = 4  # batches a worker holds ready, see datamodules/loaders.py


def check_cores(cfg: DictConfig) -> CheckResult:
    """Check the cores seen, allowed by affinity and in the cgroup's quota, and torch's threads."""
    seen, allowed = os.cpu_count() or 1, allowed_cores()
    quota, threads = cgroup_limits().cores, torch.get_num_threads()
    found, known = [], {"seen": seen, "allowed": allowed, "cgroup_quota": quota, "threads": threads}
    if quota is not None and quota < allowed and threads > math.ceil(quota):
        fewer = max(1, math.floor(quota))
        what = (
            f"the cgroup's quota is {quota:g} cores' worth of time, but {allowed} cores are seen"
            f" and torch starts {threads} threads"
        )
        found.append(
            Issue(
                "warning",
                what,
                f"set OMP_NUM_THREADS={fewer} and datamodule.num_workers={fewer - 1}",
            )
        )
    usable = min(allowed, math.ceil(quota or allowed))
    if n_workers(cfg) > usable:
        what = (
            f"datamodule.num_workers={n_workers(cfg)} is more than the {usable} cores that this"
            " process may use"
        )
        found.append(
            Issue("warning", what, f"set datamodule.num_workers={max(0, usable - 1)}, or auto")
        )
    said = (
        f"{allowed} allowed of {seen}; quota {f'{quota:g}' if quota else 'none'}; {threads}"
        f" thread{'s' * (threads > 1)} of torch"
    )
    return CheckResult({"CPU cores": said}, known, tuple(found))


def allowed_cores() -> int:
    """Cores that this process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def n_workers(cfg: DictConfig) -> int:
    """Loader processes that a run would start for each loader."""
    asked = cfg.datamodule.num_workers
    return default_num_workers() if asked == "auto" else int(asked)


def check_memory(cfg: DictConfig) -> CheckResult:
    """Check the memory of the machine, or of the cgroup where that is less."""
    machine, limit = psutil.virtual_memory(), cgroup_limits().memory
    total = min(machine.total, limit or machine.total)
    free = min(machine.available, total)
    known = {"total_bytes": total, "available_bytes": free, "cgroup_limit_bytes": limit}
    said = (
        f"{format_gigabytes(total)}, {format_gigabytes(free)} available; cgroup limit"
        f" {format_gigabytes(limit) if limit else 'none'}"
    )
    found = []
    if free < 4e9:
        mend = "end other programs, ask for more, or lower datamodule.batch_size"
        found.append(
            Issue(
                "stops a run" if free < 1e9 else "warning",
                f"only {format_gigabytes(free)} of memory are available",
                mend,
            )
        )
    return CheckResult({"memory": said}, known, tuple(found))


def check_shared_memory(cfg: DictConfig) -> CheckResult:
    """Check the shared memory through which loader processes hand over their batches."""
    if not SHARED_MEMORY.is_dir():
        return CheckResult({"shared memory": "none to measure on this system"}, {})
    usage, count = shutil.disk_usage(SHARED_MEMORY), n_workers(cfg)
    planes = cfg.datamodule.channels + len(cfg.module.classes)
    need = (
        2
        * count
        * PREFETCH_FACTOR
        * cfg.datamodule.batch_size
        * planes
        * math.prod(ImageSize.from_config(cfg.image_size))
    )  # of train and of val
    known = {"total_bytes": usage.total, "free_bytes": usage.free, "loader_needs_bytes": need}
    said = (
        f"{SHARED_MEMORY}: {format_gigabytes(usage.free)} free of {format_gigabytes(usage.total)}; "
    )
    said += (
        f"{count} loader workers need up to {format_gigabytes(need)}"
        if count
        else "no loader workers that need any"
    )
    found = []
    if count and (usage.total < 1e9 or usage.free < need):
        what = (
            f"{SHARED_MEMORY} has {format_gigabytes(usage.free)} free of {format_gigabytes(usage.total)}, where {count}"
            f" loader workers need up to {format_gigabytes(need)}"
        )
        mend = "give the container more (docker run --shm-size=8g), or set datamodule.num_workers=0"
        found.append(Issue("stops a run" if usage.free < need else "warning", what, mend))
    return CheckResult({"shared memory": said}, known, tuple(found))


def check_open_files(cfg: DictConfig) -> CheckResult:
    """Check the limit of open files; every batch that a worker hands over holds some."""
    try:
        import resource
    except ImportError:
        return CheckResult({"open files": "no limit on this system"}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    boundless = soft == resource.RLIM_INFINITY
    found = []
    if not boundless and soft < 1024:
        mend = (
            f"run ulimit -n {4096 if hard == resource.RLIM_INFINITY else min(4096, hard)} first, or"
            " set datamodule.num_workers=0"
        )
        found.append(
            Issue("warning", f"at most {soft} files may be open, which loader workers use up", mend)
        )
    return CheckResult(
        {"open files": "no limit" if boundless else f"{soft:,} at most"},
        {"limit": None if boundless else soft},
        tuple(found),
    )
