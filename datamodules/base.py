"""The DataModule that every data set shares; a subclass writes `manifest()` alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import albumentations as A
from pydantic import Field

from datamodules.arguments import Channels, Count, FilePath, Whole, check_partial, validated
from datamodules.cache import ImageCache
from datamodules.checks import (
    check_cache_size,
    check_folds,
    check_image_size,
    check_images,
    check_root,
    check_splits,
)
from datamodules.cleaning import CleaningReport
from datamodules.decoding import build_cache
from datamodules.image_size import ImageSize, ImageSizeLike
from datamodules.leaks import leakage_stats, merge_near_duplicate_groups
from datamodules.manifest import SPLITS, Manifest
from datamodules.plan import SamplingConfig
from datamodules.probabilities import attach_scores
from datamodules.serving import ServingDataModule
from datamodules.split import assign_fold, assign_split


@validated
class ManifestDataModule(ServingDataModule, ABC):
    """Checks the data once, before training, and serves train, val and test.

    Args:
        root: The data set's folder; only ever read.
        cache_dir: Where decoded images are kept between runs.
        image_size: The network's input in pixels: the side of a square, or [height, width].
        cache_size: Size at which decoded images are kept, in the same form; `image_size` if None.
            Set a larger one where the augmentation crops.
        evaluation_size: `native`, or the longest side in pixels of the grid of evidence.
        batch_size: Images per training step and device.
        eval_batch_size: The same in evaluation; `batch_size` if None.
        batches_per_epoch: Training steps per epoch; as many full batches as there are images if
            None.
        channels: 1 keeps images grey, 3 makes them RGB.
        augmentation: An albumentations pipeline for training.
        sampling: The way an epoch samples images; all alike if None.
        cls_prob: A pre-classifier's run folder, or its cls_prob.csv: the probabilities by which
            hard images are recognised.
        split: `folders` keeps the data set's own split; `group` makes a new one by group, 80/10/10.
        folds: Number of folds that `fold_pool` is cut into; 0 for none.
        fold: Number of the fold that is val.
        fold_pool: What is cut into folds: `train_val`, or `train` alone, while val and test are
            both kept out as test.
        seed: Seed of the split, the order and the augmentation.
        near_duplicates: `report` nearly identical pictures in different splits, or `join` them into one
            group before `split=group`.
        allow_leaks: Continue although a group or a file is in two splits.
        predict_splits: Splits whose images do=[predict] predicts on.
        num_workers: Loader processes; `auto` takes what the cores allow.
        inverted_masks: `refuse` masks that cover most pixels of most images; `invert`: swap
            foreground and background of every mask; `keep` them.
        phantom: Called with `root` to write a stand-in data set there first.
    """

    def __init__(
        self,
        root: FilePath,
        cache_dir: FilePath,
        image_size: ImageSizeLike,
        evaluation_size: Count | Literal["native"] = "native",
        cache_size: ImageSizeLike | None = None,
        batch_size: Count = 16,
        eval_batch_size: Count | None = None,
        batches_per_epoch: Count | None = None,
        channels: Channels = 1,
        augmentation: A.Compose | None = None,
        sampling: SamplingConfig | None = None,
        cls_prob: str | None = None,
        split: Literal["folders", "group"] = "folders",
        folds: Whole = 0,
        fold: Whole | None = None,
        fold_pool: Literal["train_val", "train"] = "train_val",
        seed: Whole = 0,
        near_duplicates: Literal["report", "join"] = "report",
        allow_leaks: bool = False,
        predict_splits: Annotated[
            Sequence[Literal["train", "val", "test"]], Field(min_length=1)
        ] = ("test",),
        num_workers: Whole | Literal["auto"] = "auto",
        inverted_masks: Literal["refuse", "invert", "keep"] = "refuse",
        phantom: Callable[[Path], None] | None = None,
    ) -> None:
        super().__init__()
        check_partial("phantom", phantom)
        self.root, self.cache_dir = Path(root).expanduser(), Path(cache_dir).expanduser()
        check_image_size(image_size, "image_size")
        self.image_size = ImageSize.from_config(image_size)
        self._cache_follows = cache_size is None
        self.cache_size = (
            self.image_size if cache_size is None else check_cache_size(cache_size, self.image_size)
        )
        self.evaluation_size, self.batches_per_epoch = evaluation_size, batches_per_epoch
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.channels, self.augmentation = channels, augmentation
        self.sampling, self.cls_prob = sampling or SamplingConfig(), cls_prob
        self.split, self.seed = split, seed
        self.folds, self.fold, self.fold_pool = folds, fold, fold_pool
        self.near_duplicates, self.allow_leaks = near_duplicates, allow_leaks
        self.predict_splits = tuple(name for name in SPLITS if name in predict_splits)
        self.num_workers, self.phantom = num_workers, phantom
        self.inverted_masks = inverted_masks
        self.cleaning = CleaningReport()
        self.leaks: list[str] = []
        self.folder_leaks: dict[str, int] = {}  # what the split that the files came in would leak
        check_folds(folds, fold)

    def resize(self, image_size: ImageSize) -> None:
        """Take another image size; call it before the data is prepared.

        Decoded images are kept at it too, unless `cache_size` was given.
        """
        self.image_size = image_size
        if self._cache_follows:
            self.cache_size = image_size

    @abstractmethod
    def manifest(self) -> Manifest:
        """One row per image under `self.root`."""

    def read_manifest(self) -> Manifest:
        """Return `manifest()`, with its masks to be swapped if `inverted_masks` is `invert`."""
        return replace(self.manifest(), swap_masks=self.inverted_masks == "invert")

    @cached_property
    def table(self) -> Manifest:
        """The checked manifest with its final split; read once."""
        if self.phantom is not None:
            self.phantom(self.root)
        check_root(self.root)
        manifest = self.read_manifest()
        if self.near_duplicates == "join":
            thumbnails = build_cache(
                manifest, self.cache_size, self.channels, self.cache_dir
            ).thumbnails
            manifest.rows["group"] = merge_near_duplicate_groups(manifest.rows, thumbnails)
        if "split" in manifest.rows:
            self.folder_leaks = leakage_stats(manifest.rows)
        manifest.rows["outer_split"] = assign_split(manifest.rows, self.split == "group", self.seed)
        manifest.rows["split"] = assign_fold(
            manifest.rows, self.folds, self.fold or 0, self.fold_pool, self.seed
        )
        if self.cls_prob:
            manifest = attach_scores(manifest, self.cls_prob)
        elif self.sampling.boosts_hard and "cls_prob" in manifest.rows:
            for id in manifest.rows["id"][manifest.rows["cls_prob"].notna()]:
                self.cleaning.count(
                    "cls_prob came with the table: whether its network had seen the image is not"
                    " known",
                    id,
                )
        return self.with_split(manifest)

    def with_split(self, manifest: Manifest) -> Manifest:
        """Return the table as it is served, for a data set whose rows depend on their split."""
        return manifest

    @cached_property
    def cache(self) -> ImageCache:
        """The decoded images; leaks are checked here, because the check needs their content."""
        cache = self.decoded()
        self.leaks = check_splits(self.root, self.table, cache, self.allow_leaks)
        return cache

    def decoded(self) -> ImageCache:
        """Build or open the cache; count odd images and masks, and refuse if most are odd."""
        cache = build_cache(self.table, self.cache_size, self.channels, self.cache_dir)
        check_images(self.root, self.table, cache, self.inverted_masks, self.cleaning)
        return cache

    def prepare_data(self) -> None:
        """Check everything and build the cache; safe to call from several processes at once."""
        _ = self.cache
