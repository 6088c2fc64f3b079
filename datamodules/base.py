"""A manifest in, loaders out: the DataModule that every data set shares. A subclass writes `manifest()` alone."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import albumentations as A
import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from datamodules.cache import ImageCache, build
from datamodules.cleaning import CleaningReport
from datamodules.dataset import ManifestDataset, collate
from datamodules.leaks import NearDuplicate, near_duplicates, refuse_leaks
from datamodules.manifest import Manifest
from datamodules.refusal import ManifestError, Refusal
from datamodules.sample import Sample
from datamodules.sampling import EvaluationKeys, ResumableLoader, TrainingKeys
from datamodules.split import as_fold, three_way


class ManifestDataModule(LightningDataModule, ABC):
    """Checks the data once, before training, and serves train, val and test.

    Args:
        root: The data set's folder; only ever read.
        cache_dir: Where decoded images are kept between runs.
        image_size: Side of the network's square input in pixels.
        evaluation_size: `native`, or the longest side in pixels of the grid on which predictions are judged.
        batch_size: Images a training step and device.
        eval_batch_size: Images an evaluation step and device; `batch_size` if None.
        batches_per_epoch: Training steps an epoch; as many full batches as there are images if None.
        channels: 1 keeps images grey, 3 makes them RGB.
        augmentation: An albumentations pipeline for training.
        split: `folders` keeps the data set's own split; `group` splits anew by group, 80/10/10.
        folds: Number of folds into which train and val together are cut; 0 for none.
        fold: Which of them is val.
        seed: Seed of the split, the order and the augmentation.
        allow_leaks: Go on where a group or a file stands on two sides of the split.
        num_workers: Loader processes; `auto` takes what the cores allow.
        phantom: Called with `root` to write a stand-in data set there first.
    """

    def __init__(
        self,
        root: str,
        cache_dir: str,
        image_size: int,
        evaluation_size: int | str = "native",
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        batches_per_epoch: int | None = None,
        channels: Literal[1, 3] = 1,
        augmentation: A.Compose | None = None,
        split: Literal["folders", "group"] = "folders",
        folds: int = 0,
        fold: int | None = None,
        seed: int = 0,
        allow_leaks: bool = False,
        num_workers: int | Literal["auto"] = "auto",
        phantom: Callable[[Path], None] | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.cache_dir = Path(cache_dir).expanduser()
        self.image_size = image_size
        self.evaluation_size = evaluation_size
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.batches_per_epoch = batches_per_epoch
        self.channels = channels
        self.augmentation = augmentation
        self.split = split
        self.folds = folds
        self.fold = fold
        self.seed = seed
        self.allow_leaks = allow_leaks
        self.num_workers = num_workers
        self.phantom = phantom
        self.cleaning = CleaningReport()
        self.leaks: list[str] = []
        self._check_numbers()

    @abstractmethod
    def manifest(self) -> Manifest:
        """One row per image of the data set under `self.root`."""

    def _check_numbers(self) -> None:
        if self.image_size % 32:
            raise Refusal(f"image_size={self.image_size} is not a multiple of 32, which the networks need; try image_size={round(self.image_size / 32) * 32 or 32}")
        if self.folds and not 0 <= (self.fold or 0) < self.folds:
            raise Refusal(f"fold={self.fold} is none of the {self.folds} folds; take fold=0 to fold={self.folds - 1}")
        if self.evaluation_size != "native" and not (isinstance(self.evaluation_size, int) and self.evaluation_size > 0):
            raise Refusal(f"evaluation_size={self.evaluation_size} is neither native nor a number of pixels; take evaluation_size=native")

    @cached_property
    def table(self) -> Manifest:
        """The checked manifest with its final split; read once."""
        if self.phantom is not None:
            self.phantom(self.root)
        if not self.root.is_dir():
            raise ManifestError(f"datamodule.root={self.root} is not a folder; set DATA_ROOT, or datamodule.root=... on the command line")
        if not any(self.root.iterdir()):
            raise ManifestError(f"datamodule.root={self.root} is an empty folder; put the data set there, or set datamodule.root=...")
        manifest = self.manifest()
        rows = manifest.rows
        if self.split == "group" or "split" not in rows:
            rows["split"] = three_way(rows, self.seed)
        if self.folds:
            rows["split"] = as_fold(rows, self.folds, self.fold or 0, self.seed)
        for split in ("train", "val"):
            if not (rows["split"] == split).any():
                raise ManifestError(f"{self.root} has no image in split {split}; add some, or split anew with datamodule.split=group")
        return manifest

    @cached_property
    def cache(self) -> ImageCache:
        """The decoded images; the gate for leaks stands here, because it needs their content."""
        cache = build(self.table, self.image_size, self.channels, self.cache_dir)
        self.leaks = refuse_leaks(self.table.rows, cache.digests, self.allow_leaks)
        return cache

    @cached_property
    def lookalikes(self) -> list[NearDuplicate]:
        """Nearly identical pictures in different splits, for the report."""
        return near_duplicates(self.table.rows, np.asarray(self.cache.thumbnails))

    def prepare_data(self) -> None:
        """Checks everything and builds the cache; safe to call from several processes at once."""
        _ = self.cache

    def setup(self, stage: str) -> None:
        """Opens what `prepare_data` made."""
        _ = self.cache

    def dataset(self, evaluation: bool) -> ManifestDataset:
        """All rows, augmented for training or with their truth for evaluation."""
        rows = self.table.rows
        return ManifestDataset(
            self.cache,
            rows["id"].tolist(),
            rows["group"].astype(str).tolist(),
            len(self.table.classes),
            self.seed,
            None if evaluation else self.augmentation,
            self.evaluation_size if evaluation else None,
        )

    def train_dataloader(self) -> DataLoader:
        """Augmented batches in an order that follows from (seed, epoch)."""
        rank, world_size = self._rank()
        keys = TrainingKeys(
            self.table.where("train"), self.batch_size, self.image_size, self.seed, self._epoch, self.batches_per_epoch, rank, world_size
        )
        return ResumableLoader(consumed=self._consumed, dataset=self.dataset(evaluation=False), batch_sampler=keys, **self._loading())

    def val_dataloader(self) -> DataLoader:
        """Every val image once, with its truth."""
        return self.evaluation_dataloader("val")

    def test_dataloader(self) -> DataLoader:
        """Every test image once, with its truth."""
        return self.evaluation_dataloader("test")

    def evaluation_dataloader(self, split: str) -> DataLoader:
        """Every image of a split once, in the manifest's order, with its truth."""
        rank, world_size = self._rank()
        keys = EvaluationKeys(self.table.where(split), self.eval_batch_size, self.image_size, rank, world_size)
        return DataLoader(self.dataset(evaluation=True), batch_sampler=keys, **self._loading())

    def samples(self, ids: list[str]) -> Sample:
        """A batch of the named images as evaluation sees them, in the order asked."""
        row = {id: number for number, id in enumerate(self.table.rows["id"])}
        dataset = self.dataset(evaluation=True)
        keys = EvaluationKeys([row[id] for id in ids], len(ids), self.image_size)
        return collate([dataset[key] for batch in keys for key in batch])

    def _loading(self) -> dict[str, Any]:
        workers = automatic_workers() if self.num_workers == "auto" else self.num_workers
        return {
            "collate_fn": collate,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "generator": torch.Generator().manual_seed(self.seed),  # else a loader draws from the global stream
            "prefetch_factor": 4 if workers else None,
        }

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def _consumed(self) -> int:
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if self.trainer else 0


def automatic_workers() -> int:
    """Loader processes for one device: none on a CPU of up to two cores, where the step needs them; else up to 8."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    devices = max(1, torch.cuda.device_count())
    return 0 if cores <= 2 and not torch.cuda.is_available() else max(1, min(8, cores // devices - 1))
