"""Checks of GPUs, CPU cores, memory and shared memory."""

import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from omegaconf import DictConfig

from datamodules.base import resolve_num_workers
from datamodules.image_size import ImageSize
from datamodules.loading.shared_memory import PREFETCH_FACTOR, SHARED_MEMORY
from engine.doctor.check_result import CheckResult, Issue, format_gigabytes
from engine.gpus import nvidia_gpus
from lightning_modules.hardware import best_precision, cpu_has_fast_bf16

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class CgroupLimits:
    """Limits of a control group; None if there is no limit.

    Attributes:
        cores: Number of cores whose time it may use.
        memory: Memory in bytes.
    """

    cores: float | None = None
    memory: int | None = None


def cgroup_limits(root: Path = CGROUPS, own: Path = OWN) -> CgroupLimits:
    """Return the smallest limits among the process's groups and their parents, which all apply.

    Args:
        root: Folder in which the groups are mounted.
        own: File that names the groups of this process, one line `number:controllers:path` per
            hierarchy.
    """
    if not own.is_file():
        return CgroupLimits()  # not Linux
    cores: list[float] = []
    memory: list[int] = []
    for line in own.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(",") if controllers else [""]:
            for group in _parent_groups(root / name, path):
                cores += _cgroup_cores(group)
                memory += _cgroup_memory(group)
    return CgroupLimits(min(cores, default=None), min(memory, default=None))


def _parent_groups(mount: Path, path: str) -> Iterator[Path]:
    group = mount / path.lstrip("/")
    while (
        group != mount and mount in group.parents
    ):  # in a container the path of the host does not exist
        yield group
        group = group.parent
    yield mount


def _cgroup_cores(group: Path) -> list[float]:
    words = _read_words(group / "cpu.max") or _read_words(group / "cpu.cfs_quota_us") + _read_words(
        group / "cpu.cfs_period_us"
    )
    return [] if len(words) < 2 or words[0] in ("max", "-1") else [int(words[0]) / int(words[1])]


def _cgroup_memory(group: Path) -> list[int]:
    words = _read_words(group / "memory.max") + _read_words(group / "memory.limit_in_bytes")
    return [
        int(word) for word in words if word != "max" and int(word) < 2**62
    ]  # in version 1 a number near 2**63 means no limit


def _read_words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []


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
    message = (
        f"{allowed} allowed of {seen}; quota {f'{quota:g}' if quota else 'none'}; {threads}"
        f" thread{'s' * (threads > 1)} of torch"
    )
    return CheckResult({"CPU cores": message}, known, tuple(found))


def allowed_cores() -> int:
    """Return the number of cores that this process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def n_workers(cfg: DictConfig) -> int:
    """Return the number of loader processes that a run would start for each loader."""
    return resolve_num_workers(cfg.datamodule.num_workers)


def check_memory(cfg: DictConfig) -> CheckResult:
    """Check the memory of the machine, or of the cgroup if that is less."""
    machine, limit = psutil.virtual_memory(), cgroup_limits().memory
    total = min(machine.total, limit or machine.total)
    free = min(machine.available, total)
    known = {"total_bytes": total, "available_bytes": free, "cgroup_limit_bytes": limit}
    message = (
        f"{format_gigabytes(total)}, {format_gigabytes(free)} available; cgroup limit"
        f" {format_gigabytes(limit) if limit else 'none'}"
    )
    found = []
    if free < 4e9:
        fix = "end other programs, ask for more, or lower datamodule.batch_size"
        found.append(
            Issue(
                "stops a run" if free < 1e9 else "warning",
                f"only {format_gigabytes(free)} of memory are available",
                fix,
            )
        )
    return CheckResult({"memory": message}, known, tuple(found))


def check_shared_memory(cfg: DictConfig) -> CheckResult:
    """Check the shared memory through which loader processes pass their batches."""
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
    )  # workers of train and of val
    known = {"total_bytes": usage.total, "free_bytes": usage.free, "loader_needs_bytes": need}
    message = (
        f"{SHARED_MEMORY}: {format_gigabytes(usage.free)} free of {format_gigabytes(usage.total)}; "
    )
    message += (
        f"{count} loader workers need up to {format_gigabytes(need)}"
        if count
        else "no loader workers that need any"
    )
    found = []
    if count and (usage.total < 1e9 or usage.free < need):
        what = (
            f"{SHARED_MEMORY} has {format_gigabytes(usage.free)} free of"
            f" {format_gigabytes(usage.total)}, where {count} loader workers need up to"
            f" {format_gigabytes(need)}"
        )
        fix = "give the container more (docker run --shm-size=8g), or set datamodule.num_workers=0"
        found.append(Issue("stops a run" if usage.free < need else "warning", what, fix))
    return CheckResult({"shared memory": message}, known, tuple(found))


def check_open_files(cfg: DictConfig) -> CheckResult:
    """Check the limit of open files, because every batch of a worker keeps some open."""
    try:
        import resource
    except ImportError:
        return CheckResult({"open files": "no limit on this system"}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    boundless = soft == resource.RLIM_INFINITY
    found = []
    if not boundless and soft < 1024:
        fix = (
            f"run ulimit -n {4096 if hard == resource.RLIM_INFINITY else min(4096, hard)} first, or"
            " set datamodule.num_workers=0"
        )
        found.append(
            Issue("warning", f"at most {soft} files may be open, which loader workers use up", fix)
        )
    return CheckResult(
        {"open files": "no limit" if boundless else f"{soft:,} at most"},
        {"limit": None if boundless else soft},
        tuple(found),
    )


def check_devices(cfg: DictConfig) -> CheckResult:
    """Check every GPU and MPS.

    For a GPU the name, memory, free memory and compute capability are reported.
    """
    gpus = (
        [_describe_gpu(index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    mps = torch.backends.mps.is_available()
    message = {
        f"GPU {gpu['index']}": (
            f"{gpu['name']}, compute capability {gpu['capability']},"
            f" {format_gigabytes(gpu['total'])}, {format_gigabytes(gpu['free'])} free"
        )
        for gpu in gpus
    }
    if not gpus:
        message["GPU"] = "MPS" if mps else "none that torch can use"
    found = [
        *_hidden_gpus(cfg, gpus),
        *(wrong for gpu in gpus for wrong in _unusable_devices(gpu)),
        *_requested_devices(cfg, len(gpus)),
    ]
    return CheckResult(message, {"gpus": gpus, "mps": mps}, tuple(found))


def accelerator_kind(cfg: DictConfig) -> str:
    """Return the kind of device that trainer.accelerator selects here: `cuda`, `mps` or `cpu`."""
    asked = cfg.trainer.accelerator
    if asked in ("auto", "gpu") and not torch.cuda.is_available():
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return "cuda" if asked in ("auto", "gpu") else asked


def n_devices(cfg: DictConfig) -> int:
    """Return the number of processes per node, one per device, that trainer.devices gives here."""
    asked = cfg.trainer.devices
    there = torch.cuda.device_count() if accelerator_kind(cfg) == "cuda" else 1
    if str(asked) in ("auto", "-1"):
        return there
    indices = _gpu_indices(asked)
    return int(asked) if indices is None else len(indices)


def _gpu_indices(asked: Any) -> list[int] | None:
    """Return devices that are listed one by one, `[0,2]` or `0,2`; None for a number of them."""
    if isinstance(asked, int) or re.fullmatch(r"-?\d+|auto", str(asked)):
        return None
    return [int(word) for word in re.findall(r"\d+", str(asked))]


def _describe_gpu(index: int) -> dict[str, Any]:
    properties, (free, total) = (
        torch.cuda.get_device_properties(index),
        torch.cuda.mem_get_info(index),
    )
    return {
        "index": index,
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "free": free,
        "total": total,
    }


def _hidden_gpus(cfg: DictConfig, gpus: list[dict[str, Any]]) -> list[Issue]:
    there, wanted = nvidia_gpus(), cfg.trainer.accelerator in ("gpu", "cuda")
    if not gpus and there and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
        what = (
            f"the driver knows {there} NVIDIA GPU{'s' * (there > 1)}, but torch {torch.__version__}"
            " cannot use any"
        )
        fix = (
            "update the driver, or install the torch build for its CUDA version"
            " (pytorch.org/get-started)"
        )
        return [Issue("stops a run" if wanted else "warning", what, fix)]
    if not gpus and wanted and accelerator_kind(cfg) != "mps":
        return [
            Issue(
                "stops a run",
                f"trainer.accelerator={cfg.trainer.accelerator}, but there is no GPU here",
                "take trainer.accelerator=auto",
            )
        ]
    return []


def _unusable_devices(gpu: dict[str, Any]) -> list[Issue]:
    found, name = [], f"GPU {gpu['index']} ({gpu['name']})"
    built = torch.cuda.get_arch_list()
    if not _is_supported(gpu["capability"], built):
        what = (
            f"{name} has compute capability {gpu['capability']}, for which this torch build has no"
            f" code ({', '.join(built)})"
        )
        fix = (
            "install a torch build that has, or leave it out with CUDA_VISIBLE_DEVICES or"
            f" trainer.devices=[...] (not {gpu['index']})"
        )
        found.append(Issue("stops a run", what, fix))
    if gpu["free"] < gpu["total"] / 2:
        what = (
            f"{name} has {format_gigabytes(gpu['free'])} free of {format_gigabytes(gpu['total'])}:"
            " another process holds the rest"
        )
        found.append(
            Issue(
                "warning",
                what,
                "end it (nvidia-smi names it), or choose another GPU with CUDA_VISIBLE_DEVICES",
            )
        )
    return found


def _is_supported(capability: str, built: list[str]) -> bool:
    """Return True if this torch build has code for a compute capability.

    A binary runs on its own major version, from its minor version on; PTX (`compute_80`) is
    compiled for all later ones.
    """
    own = tuple(map(int, capability.split(".")))
    for name in built:
        matched = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name)
        if matched is None:
            return True  # AMD has other names
        version = int(matched[2]), int(matched[3])
        if version <= own and (matched[1] == "compute" or version[0] == own[0]):
            return True
    return not built


def _requested_devices(cfg: DictConfig, gpus: int) -> list[Issue]:
    asked, of = cfg.trainer.devices, accelerator_kind(cfg)
    wanted, indices = n_devices(cfg), _gpu_indices(asked) or []
    if wanted < 1:
        return [
            Issue(
                "stops a run",
                f"trainer.devices={asked} is no device at all",
                "take trainer.devices=1, or auto for all there are",
            )
        ]
    there = {"cuda": gpus, "mps": 1}.get(of, math.inf)
    if wanted > there or any(index >= there for index in indices):
        what = (
            f"trainer.devices={asked}, but there {'is' if there == 1 else 'are'} {there}"
            f" {'GPU' if there == 1 else 'GPUs'} here"
        )
        return (
            [Issue("stops a run", what, f"take trainer.devices={there}")] if there else []
        )  # the case without any GPU is reported elsewhere
    if of == "cpu" and wanted > allowed_cores():
        what = (
            f"trainer.devices={asked} starts {wanted} processes on {allowed_cores()}"
            f" core{'s' * (allowed_cores() > 1)}"
        )
        return [Issue("warning", what, f"take trainer.devices={allowed_cores()} or fewer")]
    return []


def chosen_precision(cfg: DictConfig, of: str) -> str:
    """Return the precision in which a device of this kind computes."""
    return best_precision(of) if cfg.trainer.precision == "auto" else str(cfg.trainer.precision)


def check_precision(cfg: DictConfig) -> CheckResult:
    """Check the precision of a run on this machine, and give the reason."""
    of = accelerator_kind(cfg)
    chosen, low = chosen_precision(cfg, of), of == "cpu" and not cpu_has_fast_bf16()
    capability = torch.cuda.get_device_capability() if of == "cuda" else (0, 0)
    why = {
        "cuda": (
            f"compute capability {capability[0]}.{capability[1]}"
            f" {'multiplies' if capability >= (8, 0) else 'does not multiply'} bfloat16"
        ),
        "cpu": (
            "this CPU has"
            f" {'no AMX, without which bfloat16 is slower than float32' if low else 'AMX'}"
        ),
        "mps": "autocast is not relied on with MPS",
    }.get(of, "")
    low = low or (of == "cuda" and capability < (8, 0))
    found = []
    if chosen.startswith("bf16") and low:
        found.append(
            Issue(
                "warning",
                f"trainer.precision={chosen}, but {why}, so it is slow",
                "take trainer.precision=auto",
            )
        )
    if chosen == "16-mixed" and of == "cpu":
        what = (
            "trainer.precision=16-mixed does not exist on a CPU, where bf16-mixed takes its place"
        )
        found.append(Issue("warning", what, "take trainer.precision=auto"))
    asked = "auto" if cfg.trainer.precision == "auto" else "as asked"
    return CheckResult(
        {"precision": f"{chosen} ({asked}): {why}"},
        {"device": of, "precision": chosen, "asked": str(cfg.trainer.precision)},
        tuple(found),
    )
