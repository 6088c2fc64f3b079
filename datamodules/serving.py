"""Datasets and loaders of a checked table for train, val and test, with a plan for each epoch."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import albumentations as A
import numpy as np
from lightning import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from datamodules.dataset import ManifestDataset
from datamodules.drawing import SamplingPool
from datamodules.image_size import ImageSize
from datamodules.labels import present_classes
from datamodules.loaders import NumWorkers, evaluation_loader, training_loader
from datamodules.plan import EpochConfig, SamplingConfig
from datamodules.strata import build_sampling_pool, subsample_negatives


class ServingDataModule(LightningDataModule):
    """Serves a table and a cache; `ManifestDataModule` makes both and documents the values."""

    table: Any  # a Manifest
    cache: Any  # an ImageCache
    image_size: ImageSize
    evaluation_size: int | str
    batch_size: int
    eval_batch_size: int
    batches_per_epoch: int | None
    augmentation: A.Compose | None
    sampling: SamplingConfig
    seed: int
    predict_splits: tuple[str, ...]
    num_workers: NumWorkers
    can_validate = True  # False where nothing is known of the images

    def __init__(self) -> None:
        super().__init__()
        self.epoch_config: Callable[[int], EpochConfig] = lambda epoch: (
            self.base_epoch_config
        )  # a curriculum puts its own in place
        self.trained_size: ImageSize | None = (
            None  # that a checkpoint's weights were trained on, where it says so
        )
        self.size_is_given = (
            False  # by the user, for a test or a prediction: then it wins over `trained_size`
        )

    @property
    def base_epoch_config(self) -> EpochConfig:
        """The plan of every epoch, unless a curriculum sets another one."""
        wanted = self.sampling.positive_fraction, self.sampling.strata_weights
        return EpochConfig(self.image_size, self.batch_size, self.batches_per_epoch, *wanted)

    @cached_property
    def pool(self) -> SamplingPool:
        """The training rows as the sampler sees them."""
        pool = build_sampling_pool(self.table, self.cache, self.sampling, self.seed)
        pool.check(self.base_epoch_config, "datamodule.sampling")
        return pool

    @property
    def images(self) -> np.ndarray:
        """Used training images without and with each class, `classes x 2`."""
        rows, _ = subsample_negatives(self.table, self.cache, self.sampling, self.seed)
        there = present_classes(self.table, self.cache)[rows].sum(0)
        return np.stack([len(rows) - there, there], 1)

    @property
    def pixels(self) -> np.ndarray:
        """Pixels outside and inside the masks of each class, `classes x 2`.

        They are those of the training rows that are used, at each image's own size.
        """
        rows, _ = subsample_negatives(self.table, self.cache, self.sampling, self.seed)
        inside = np.asarray(self.cache.areas)[rows].sum(0)
        return np.stack(
            [np.asarray(self.cache.sizes, np.int64)[rows].prod(1).sum() - inside, inside], 1
        )

    def dataset(self, evaluation: bool) -> ManifestDataset:
        """All rows, augmented for training or with their truth for evaluation."""
        if evaluation:
            return ManifestDataset(
                self.cache, self.table, self.seed, evaluation_size=self.evaluation_size
            )
        return ManifestDataset(
            self.cache, self.table, self.seed, self.augmentation, weights=self._loss_weights()
        )

    def _loss_weights(self) -> np.ndarray | None:
        if not (self.sampling.hard_in_loss and self.sampling.boosts_hard):
            return None
        weights = np.ones(len(self.table))
        weights[self.pool.rows] = self.pool.hard_weight
        return weights

    def batches(self, world_size: int, epoch: int = 0) -> int:
        """Training batches of an epoch on each rank."""
        return self.pool.batches(self.epoch_config(epoch), world_size)

    def trained_image_size(self) -> ImageSize:
        """Return the canvas for evaluation: the running epoch's in a fit, else the weights'.

        A size that the user gave for a test or a prediction wins over that of the weights.
        """
        fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        if fitting and self.trainer:
            return self.epoch_config(self.trainer.current_epoch).image_size
        return self.image_size if self.size_is_given else self.trained_size or self.image_size

    def train_dataloader(self) -> DataLoader:
        """Augmented batches in an order that follows from (seed, epoch)."""
        return training_loader(
            self.dataset(evaluation=False),
            self.pool,
            self.epoch_config,
            self.trainer,
            self.num_workers,
        )

    def val_dataloader(self) -> DataLoader:
        """Every val image once, with its truth."""
        return self._evaluation_dataloader("val")

    def test_dataloader(self) -> DataLoader:
        """Every test image once, with its truth."""
        return self._evaluation_dataloader("test")

    def predict_dataloader(self) -> DataLoader:
        """Every image of `predict_splits` once."""
        return self._evaluation_dataloader(*self.predict_splits)

    def _evaluation_dataloader(self, *splits: str) -> DataLoader:
        rows, sizes = (
            np.flatnonzero(self.table.rows["split"].isin(splits)),
            (self.eval_batch_size, self.trained_image_size),
        )
        return evaluation_loader(
            self.dataset(evaluation=True), rows, self.trainer, *sizes, self.num_workers
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the image size these weights are trained on, if it is not `image_size`."""
        size = self.trained_image_size()
        return {"image_size": size.as_config} if size != self.image_size else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the image size that these weights were trained on, to evaluate them at it."""
        self.trained_size = ImageSize.from_config(state_dict["image_size"])
