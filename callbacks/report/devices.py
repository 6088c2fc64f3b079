"""What a run ran on: how many processes and which devices, and how many images they take a step together."""

from collections import Counter
from typing import Any

import torch
from lightning import Trainer

from callbacks.drawn import planned


def devices(trainer: Trainer) -> dict[str, Any]:
    """Of this run, as its first process knows it.

    Returns:
        `processes` in all, `nodes`, `devices_per_node`, `names` (name -> how many, of the first
        node), `accelerator`, `strategy`, `precision`, `batch_sizes` (images a training step and
        device, those of a curriculum in their order) and `accumulated` (steps whose gradients are
        summed).
    """
    plans = planned(trainer.datamodule, trainer)  # type: ignore[attr-defined]
    return {
        "processes": trainer.world_size,
        "nodes": trainer.num_nodes,
        "devices_per_node": trainer.num_devices,
        "names": names(trainer),
        "accelerator": trainer.strategy.root_device.type,
        "strategy": type(trainer.strategy).__name__.removesuffix("Strategy"),
        "precision": str(trainer.precision),
        "batch_sizes": list(dict.fromkeys(plan.batch_size for _, plan in plans)),
        "accumulated": trainer.accumulate_grad_batches,
    }


def names(trainer: Trainer) -> dict[str, int]:
    """Name of a device of the first node -> how many; known before anything runs."""
    own = getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]
    return dict(Counter(_name(device) for device in own))


def _name(device: torch.device) -> str:
    """A GPU's own name; of a CPU the threads that a process has of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return (
        f"CPU ({threads} thread{'s' * (threads > 1)})"
        if device.type == "cpu"
        else device.type.upper()
    )
