"""Describes the devices of a run: processes, device names, precision and batch sizes."""

from collections import Counter
from typing import Any

import torch
from lightning import Trainer

from callbacks.planned import sampling_schedule


def describe_devices(trainer: Trainer) -> dict[str, Any]:
    """Describe the devices of this run, as its first process knows them.

    Returns:
        `processes` in all, `nodes`, `devices_per_node`, `device_names` (name -> how many, of the first
        node), `accelerator`, `strategy`, `precision`, `batch_sizes` (images a training step and
        device, those of a curriculum in their order) and `accumulated` (steps whose gradients are
        summed).
    """
    plans = sampling_schedule(trainer.datamodule, trainer)  # type: ignore[attr-defined]
    return {
        "processes": trainer.world_size,
        "nodes": trainer.num_nodes,
        "devices_per_node": trainer.num_devices,
        "names": device_names(trainer),
        "accelerator": trainer.strategy.root_device.type,
        "strategy": type(trainer.strategy).__name__.removesuffix("Strategy"),
        "precision": str(trainer.precision),
        "batch_sizes": list(dict.fromkeys(plan.batch_size for _, plan in plans)),
        "accumulated": trainer.accumulate_grad_batches,
    }


def device_names(trainer: Trainer) -> dict[str, int]:
    """Return device name -> count for the first node; known before anything runs."""
    own = getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]
    return dict(Counter(_device_name(device) for device in own))


def _device_name(device: torch.device) -> str:
    """Return a GPU's name, a CPU with its number of threads, or the device type."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return (
        f"CPU ({threads} thread{'s' * (threads > 1)})"
        if device.type == "cpu"
        else device.type.upper()
    )
