"""Devices, precision, DDP settings and the memory allocator."""

import ctypes
import sys
from inspect import signature
from typing import Any

import joblib
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from datamodules.errors import UserError
from lightning_modules.launch_environment import rank


def best_precision(accelerator: str) -> str:
    """Return bf16-mixed if it is fast, 16-mixed on older GPUs, else 32-true.

    Args:
        accelerator: Accelerator of the Trainer: `auto`, `cpu`, `gpu`, `cuda`, `mps`, ...
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "16-mixed"
    if accelerator == "mps" or (
        accelerator in ("auto", "gpu") and torch.backends.mps.is_available()
    ):
        return "32-true"
    return "bf16-mixed" if cpu_has_fast_bf16() else "32-true"


def cpu_has_fast_bf16() -> bool:
    """Return True if this CPU has AMX.

    With AVX512-BF16 alone a training step was measured 1.3 to 1.6 times as slow as in float32.
    """
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's names for mallopt, see mallopt(3)


def set_tensor_float_32(allowed: bool) -> None:
    """Allow or forbid TF32 on GPUs, which keeps 10 bits of a float's mantissa."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def tune_malloc() -> bool:
    """Make glibc's allocator keep freed memory; peak memory does not change.

    Returns:
        True if it was set, which is possible only on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return all(
        mallopt(name, value)
        for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**26))
    )


GRADIENT_BUCKETS = 6  # approximate number of buckets, of at most 25 MB each


def check_devices(cfg: DictConfig) -> None:
    """Refuse devices that the machine does not have, before anything is read.

    More processes than CPU cores are allowed, with a message that they are slow.

    Raises:
        UserError: Devices are missing; the message names the available ones.
    """
    wanted, accelerator = cfg.trainer.devices, cfg.trainer.accelerator
    there = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and there == 0:
        raise UserError(
            f"trainer.accelerator={accelerator}, but PyTorch finds no GPU on this machine; set"
            " trainer.accelerator=cpu, or run do=doctor"
        )
    if "FSDP" in str(cfg.trainer.strategy) and not uses_cuda(accelerator):
        raise UserError(
            "trainer=fsdp shards a network over GPUs, but this run has none; set"
            " trainer=auto, or run do=doctor"
        )
    if str(OmegaConf.select(cfg, "trainer.strategy.state_dict_type")) == "sharded":
        raise UserError(
            "trainer.strategy.state_dict_type=sharded writes a checkpoint as a folder, which"
            " neither resumes nor is tested here; set trainer.strategy.state_dict_type=full"
        )
    cores = joblib.cpu_count()
    if (
        not uses_cuda(accelerator)
        and str(wanted).isdecimal()
        and int(wanted) > cores
        and not rank()
    ):
        print(
            f"trainer.devices={wanted} starts {wanted} processes on"
            f" {cores} core{'s' * (cores > 1)}, which share them and slow each other down;"
            f" trainer.devices={cores} or fewer is faster",
            file=sys.stderr,
        )
    if not uses_cuda(accelerator) or not isinstance(wanted, int):
        return
    if wanted > there:
        fix = f"set trainer.devices={there}, or trainer.accelerator=cpu for processes on the CPU"
        raise UserError(
            f"trainer.devices={wanted}, but this machine has {there} GPU{'s' if there > 1 else ''};"
            f" {fix}"
        )


def uses_cuda(accelerator: str) -> bool:
    """Return True if Lightning will train on GPUs of NVIDIA or AMD."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def ddp_strategy(net: nn.Module, find_unused: bool = False) -> dict[str, Any]:
    """Return the arguments of DDP that `strategy: auto` uses for several processes.

    Gradients are views of buckets that are small enough for several to be reduced during the
    backward pass, even in small networks. Buffers are not broadcast at every step, because the
    module broadcasts those of the first rank before a validation.

    Args:
        net: Network whose gradients are reduced.
        find_unused: True if parameters may have no gradient for a part of the training; DDP then
            looks for them at every step.
    """
    megabytes = (
        sum(parameter.nbytes for parameter in net.parameters() if parameter.requires_grad) / 2**20
    )
    buckets = {
        "gradient_as_bucket_view": True,
        "bucket_cap_mb": max(1, min(25, round(megabytes / GRADIENT_BUCKETS))),
    }
    known = signature(nn.parallel.DistributedDataParallel).parameters
    return {
        "_target_": "lightning.pytorch.strategies.DDPStrategy",
        ("forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"): False,
        "find_unused_parameters": find_unused,
        **buckets,
    }
