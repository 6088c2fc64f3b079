"""Describe devices, sampling and data of a run for report.json, while it runs."""

from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer

from datamodules.base import ManifestDataModule
from datamodules.errors import UserError
from datamodules.manifest.leakage import cached_near_duplicates
from datamodules.manifest.manifest import present_classes
from datamodules.sampling.config import EpochConfig
from reporting.run_folder import RunFolder


def sampling_schedule(data: Any, trainer: Trainer) -> list[tuple[range, EpochConfig]]:
    """Return ranges of epochs and the configuration of each.

    Stages that may end early count with their full length.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    curriculum = next((each for each in callbacks if hasattr(each, "stages")), None)
    if curriculum is None:
        plans = [data.epoch_config(epoch) for epoch in range(max(1, trainer.max_epochs or 1))]
    else:
        plans = [
            stage.epoch_config(data.base_epoch_config, epoch)
            for stage in curriculum.stages
            for epoch in range(stage.epochs)
        ]
    spans = [list(span) for _, span in groupby(range(len(plans)), lambda epoch: plans[epoch])]
    return [(range(span[0], span[-1] + 1), plans[span[0]]) for span in spans]


def describe_devices(trainer: Trainer) -> dict[str, Any]:
    """Describe the devices of this run, as its first process knows them.

    Returns:
        `processes` in all, `nodes`, `devices_per_node`, `names` (device name -> number on the
        first node), `accelerator`, `strategy`, `precision`, `batch_sizes` (images a training step
        and device, those of a curriculum in their order) and `accumulated` (steps whose gradients
        are summed).
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


def identify_data(data: ManifestDataModule) -> dict[str, Any]:
    """Return what names the data on a page: folder, kind of image, and whether it is a phantom."""
    return {
        "name": _name_data(Path(data.root)),
        "root": str(data.root),
        "image_kind": data.image_kind,
        "phantom": data.phantom is not None or data.table.phantom,
    }


def _name_data(root: Path) -> str:
    """Return the name of a folder, or the experiment where it is a run whose outputs are used."""
    try:
        return f"run of {RunFolder(root).title}"
    except UserError:  # it is no run
        return root.name


def describe_data(data: ManifestDataModule) -> dict[str, Any]:
    """Count images, groups and positives per split, and list the problems of the data."""
    rows, shows = data.table.rows, present_classes(data.table, data.cache)
    splits = {
        split: {
            "images": len(part),
            "groups": int(part["group"].nunique()),
            "positive": dict(
                zip(
                    data.table.classes,
                    shows[data.table.where(str(split))].sum(0).tolist(),
                    strict=True,
                )
            ),
        }
        for split, part in rows.groupby("split")
    }
    pairs = cached_near_duplicates(rows, np.asarray(data.cache.thumbnails), data.cache.folder)
    alike = {id for pair in pairs for id in (pair.first, pair.second)}
    return {
        **identify_data(data),
        "group_is": data.table.group_is,
        "splits": splits,
        "cleaning": data.cleaning.as_dict(),
        "leaks": data.leaks,
        "split": data.split,
        "folder_leaks": data.folder_leaks,
        "near_duplicates": {
            "pairs": len(pairs),
            "test_images": sorted(alike & set(rows["id"][rows["split"] == "test"])),
            "examples": [asdict(pair) for pair in pairs[:20]],
        },
    }
