"""Loaders of batches of keys: worker processes, pinned memory, and the epoch for the sampler."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from datamodules.dataset import ManifestDataset, collate
from datamodules.drawing import SamplingPool
from datamodules.image_size import ImageSize
from datamodules.plan import EpochConfig
from datamodules.sampling import EvaluationSampler, ResumableLoader, TrainingSampler

NumWorkers = int | Literal["auto"]


def training_loader(
    dataset: ManifestDataset,
    pool: SamplingPool,
    plan: Callable[[int], EpochConfig],
    trainer: Trainer | None,
    num_workers: NumWorkers,
) -> DataLoader:
    """Load keys that follow from (seed, epoch), sharded over the trainer's ranks.

    The state of the loader is saved with a checkpoint.
    """

    def epoch() -> int:
        # not current_epoch: a fit that is resumed between two epochs starts its workers while that
        # is still the old one
        return trainer.fit_loop.epoch_progress.current.processed if trainer else 0  # type: ignore[attr-defined]

    def consumed() -> int:
        return (
            trainer.fit_loop.epoch_loop.batch_progress.current.ready
            % int(trainer.num_training_batches)
            if trainer
            else 0
        )

    keys = TrainingSampler(pool, plan, dataset.seed, epoch, *rank_of(trainer))
    return ResumableLoader(
        consumed=consumed,
        dataset=dataset,
        batch_sampler=keys,
        **_loader_arguments(dataset.seed, num_workers),
    )


def evaluation_loader(
    dataset: ManifestDataset,
    rows: np.ndarray,
    trainer: Trainer | None,
    batch_size: int,
    image_size: Callable[[], ImageSize],
    num_workers: NumWorkers,
) -> DataLoader:
    """Load every row once, sharded over the trainer's ranks."""
    keys = EvaluationSampler(rows, batch_size, image_size, *rank_of(trainer))
    return DataLoader(dataset, batch_sampler=keys, **_loader_arguments(dataset.seed, num_workers))


def rank_of(trainer: Trainer | None) -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)


def _loader_arguments(seed: int, num_workers: NumWorkers) -> dict[str, Any]:
    workers = default_num_workers() if num_workers == "auto" else num_workers
    return {
        "collate_fn": collate,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "generator": (
            torch.Generator().manual_seed(seed)
        ),  # else a loader consumes the global random stream
        "prefetch_factor": 4 if workers else None,
        "worker_init_fn": _ignore_sigint,
    }


def _ignore_sigint(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def default_num_workers() -> int:
    """Return the number of loader processes for one device, at most 8.

    There are none on a CPU of up to two cores, where the training step needs them.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    devices = max(1, torch.cuda.device_count())
    return (
        0 if cores <= 2 and not torch.cuda.is_available() else max(1, min(8, cores // devices - 1))
    )
