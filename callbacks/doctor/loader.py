"""Time the loader on phantom slices, with this repository's cache, dataset and augmentation."""

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from datamodules.brain_tumor import BrainTumorDataModule
from datamodules.image_size import ImageSize
from datamodules.phantoms.brain_tumor import write
from lightning_modules.make import instantiate_config

BATCH_TIMEOUT = 30  # seconds without a batch, after which a loader counts as dead


def loader_images_per_second(
    cfg: DictConfig, size: ImageSize, workers: list[int], seconds: float
) -> Iterator[tuple[int, float]]:
    """Yield each number of loader processes with its rate of training images.

    Args:
        cfg: Whose augmentation, channels, batch and size of cached images are taken.
        size: Of the images.
        workers: Numbers of loader processes.
        seconds: For each, after the first batch.
    """
    more = (
        ImageSize.from_config(cfg.datamodule.cache_size or cfg.image_size).height
        / ImageSize.from_config(cfg.image_size).height
    )
    pipeline = cfg.datamodule.get("augmentation")
    with tempfile.TemporaryDirectory() as folder:
        data = partial(
            BrainTumorDataModule,
            root=f"{folder}/phantoms",
            cache_dir=f"{folder}/cache",
            image_size=size,
            cache_size=[round(side * more) for side in size],
            evaluation_size=max(size),
            batch_size=min(cfg.datamodule.batch_size, 16),
            batches_per_epoch=10_000,
            channels=cfg.datamodule.channels,
            allow_leaks=True,
            phantom=_phantom_datamodule,
        )
        for count in workers:
            yield (
                count,
                _measure_rate(
                    data(
                        augmentation=instantiate_config(pipeline) if pipeline else None,
                        num_workers=count,
                    ),
                    seconds,
                ),
            )


def _phantom_datamodule(root: Path) -> None:
    write(root, train=24, valid=2, test=2, size=128)


def _measure_rate(data: BrainTumorDataModule, seconds: float) -> float:
    loader = data.train_dataloader()
    loader.timeout = BATCH_TIMEOUT if loader.num_workers else 0
    batches = iter(loader)
    next(batches)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        images += len(next(batches)["image"])
    return images / (time.perf_counter() - start)
