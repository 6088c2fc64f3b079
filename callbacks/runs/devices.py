"""Checks that the requested devices exist, and sets up DDP for several of them."""

from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from datamodules.refusal import UserError

GRADIENT_BUCKETS = 6  # about so many, of at most 25 MB


def check_devices(cfg: DictConfig) -> None:
    """Refuse devices that the machine does not have, before anything is read.

    Raises:
        Refusal: Devices are missing; the sentence says what there is.
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
            "trainer=fsdp cuts a network into parts for GPUs, and this run has none; take"
            " trainer=auto, or run do=doctor"
        )
    if not uses_cuda(accelerator) or not isinstance(wanted, int):
        return
    if wanted > there:
        mend = f"set trainer.devices={there}, or trainer.accelerator=cpu for processes on the CPU"
        raise UserError(
            f"trainer.devices={wanted}, but this machine has {there} GPU{'s' if there > 1 else ''};"
            f" {mend}"
        )


def uses_cuda(accelerator: str) -> bool:
    """Return whether Lightning will train on GPUs of NVIDIA or AMD."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def is_multi_process(cfg: DictConfig) -> bool:
    """Return whether the run will have several ranks, as far as is known before the start."""
    return cfg.trainer.devices not in (1, "1") or cfg.trainer.num_nodes != 1


def ddp_strategy(net: nn.Module) -> dict[str, Any]:
    """Return what `strategy: auto` means for several processes: DDP as this network needs it.

    Gradients are kept once, as views of buckets small enough that several are reduced during the
    backward pass, in small networks too. Buffers are not sent at every step: the module sends the
    first rank's before a validation.

    Args:
        net: The network whose gradients are reduced.
    """
    megabytes = (
        sum(parameter.nbytes for parameter in net.parameters() if parameter.requires_grad) / 2**20
    )
    buckets = {
        "gradient_as_bucket_view": True,
        "bucket_cap_mb": max(1, min(25, round(megabytes / GRADIENT_BUCKETS))),
    }
    return {
        "_target_": "lightning.pytorch.strategies.DDPStrategy",
        "broadcast_buffers": False,
        "find_unused_parameters": False,
        **buckets,
    }
