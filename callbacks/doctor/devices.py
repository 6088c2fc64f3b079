"""Checks of the GPUs: usable by torch, as many as asked for, and the precision that is chosen."""

import math
import os
import re
from typing import Any

import torch
from omegaconf import DictConfig

from callbacks.doctor.finding import CheckResult, Issue, format_gigabytes
from callbacks.doctor.machine import allowed_cores
from lightning_modules.precision import best_precision, cpu_has_fast_bf16


def check_devices(cfg: DictConfig) -> CheckResult:
    """Report every GPU, MPS, and what is wrong with them.

    Of a GPU: name, memory, free memory and compute capability.
    """
    gpus = (
        [_describe_gpu(index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    mps = torch.backends.mps.is_available()
    said = {
        f"GPU {gpu['index']}": (
            f"{gpu['name']}, compute capability {gpu['capability']}, {format_gigabytes(gpu['total'])},"
            f" {format_gigabytes(gpu['free'])} free"
        )
        for gpu in gpus
    }
    if not gpus:
        said["GPU"] = "MPS" if mps else "none that torch can use"
    found = [
        *_hidden_gpus(cfg, gpus),
        *(wrong for gpu in gpus for wrong in _unusable_devices(gpu)),
        *_requested_devices(cfg, len(gpus)),
    ]
    return CheckResult(said, {"gpus": gpus, "mps": mps}, tuple(found))


def accelerator_kind(cfg: DictConfig) -> str:
    """Return what trainer.accelerator comes to here: `cuda`, `mps` or `cpu`."""
    asked = cfg.trainer.accelerator
    if asked in ("auto", "gpu") and not torch.cuda.is_available():
        return "mps" if torch.backends.mps.is_available() else "cpu"
    return "cuda" if asked in ("auto", "gpu") else asked


def n_devices(cfg: DictConfig) -> int:
    """Return the processes a node, one a device, that trainer.devices comes to here."""
    asked = cfg.trainer.devices
    there = torch.cuda.device_count() if accelerator_kind(cfg) == "cuda" else 1
    if str(asked) in ("auto", "-1"):
        return there
    indices = _gpu_indices(asked)
    return int(asked) if indices is None else len(indices)


def _gpu_indices(asked: Any) -> list[int] | None:
    """Return devices named one by one, `[0,2]` or `0,2`; None for a number of them."""
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


def nvidia_gpus() -> int:
    """Count the GPUs that the driver knows, whatever torch says."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except Exception:  # no driver, no library: every way says none
        return 0


def _hidden_gpus(cfg: DictConfig, gpus: list[dict[str, Any]]) -> list[Issue]:
    there, wanted = nvidia_gpus(), cfg.trainer.accelerator in ("gpu", "cuda")
    if not gpus and there and os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):
        what = (
            f"the driver knows {there} NVIDIA GPU{'s' * (there > 1)}, but torch {torch.__version__}"
            " cannot use any"
        )
        mend = (
            "update the driver, or install the torch build for its CUDA version"
            " (pytorch.org/get-started)"
        )
        return [Issue("stops a run" if wanted else "warning", what, mend)]
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
        mend = (
            "install a torch build that has, or leave it out with CUDA_VISIBLE_DEVICES or"
            f" trainer.devices=[...] (not {gpu['index']})"
        )
        found.append(Issue("stops a run", what, mend))
    if gpu["free"] < gpu["total"] / 2:
        what = (
            f"{name} has {format_gigabytes(gpu['free'])} free of {format_gigabytes(gpu['total'])}: another"
            " process holds the rest"
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
    """Return whether this torch build has code for a compute capability.

    A binary runs on its own major version from its minor on; PTX (`compute_80`) is compiled for
    anything later.
    """
    own = tuple(map(int, capability.split(".")))
    for name in built:
        matched = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name)
        if matched is None:
            return True  # of AMD, which has other names
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
        )  # none at all is said elsewhere
    if of == "cpu" and wanted > allowed_cores():
        what = (
            f"trainer.devices={asked} starts {wanted} processes on {allowed_cores()}"
            f" core{'s' * (allowed_cores() > 1)}"
        )
        return [Issue("warning", what, f"take trainer.devices={allowed_cores()} or fewer")]
    return []


def chosen_precision(cfg: DictConfig, of: str) -> str:
    """Return the precision in which a device of that kind computes."""
    return best_precision(of) if cfg.trainer.precision == "auto" else str(cfg.trainer.precision)


def check_precision(cfg: DictConfig) -> CheckResult:
    """Report the precision of a run here, and the reason."""
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
