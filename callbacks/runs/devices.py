"""Looks whether the machine has the devices that are asked for, and what follows from their number."""

import torch
from omegaconf import DictConfig

from datamodules.refusal import Refusal


def refuse_devices(cfg: DictConfig) -> None:
    """Refuses more GPUs than there are, before anything is read.

    Raises:
        Refusal: says what there is.
    """
    wanted, accelerator = cfg.trainer.devices, cfg.trainer.accelerator
    there = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and there == 0:
        raise Refusal(f"trainer.accelerator={accelerator}, but PyTorch finds no GPU on this machine; set trainer.accelerator=cpu, or run do=doctor")
    if "FSDP" in str(cfg.trainer.strategy) and not uses_cuda(accelerator):
        raise Refusal("trainer=fsdp cuts a network into parts for GPUs, and this run has none; take trainer=auto, or run do=doctor")
    if not uses_cuda(accelerator) or not isinstance(wanted, int):
        return
    if wanted > there:
        mend = f"set trainer.devices={there}, or trainer.accelerator=cpu for processes on the CPU"
        raise Refusal(f"trainer.devices={wanted}, but this machine has {there} GPU{'s' if there > 1 else ''}; {mend}")


def uses_cuda(accelerator: str) -> bool:
    """Whether Lightning will train on GPUs of NVIDIA or AMD."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def several_processes(cfg: DictConfig) -> bool:
    """Whether the run will have more ranks than this process, as far as is known before they are started."""
    return cfg.trainer.devices not in (1, "1") or cfg.trainer.num_nodes != 1
