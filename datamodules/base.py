"""Base data module that turns a data set's manifest into batches."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import joblib
import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import Field
from torch.utils.data import DataLoader

from datamodules.arguments import (
    FilePath,
    ImageSizeArgument,
    MaskValue,
    NetworkInputSize,
    NonNegativeInt,
    PixelCount,
    PositiveInt,
    VolumeAxis,
    WindowRange,
    check_partial,
    validated,
)
from datamodules.augmentation import Pipeline
from datamodules.data_root import check_root
from datamodules.errors import MAX_FILE_BYTES, MAX_IMAGE_PIXELS, ManifestError
from datamodules.formats.gray_levels import Window, range_of_channel
from datamodules.formats.image_cache import ImageCache
from datamodules.formats.image_io import ImageReader
from datamodules.image_size import ImageSize
from datamodules.loading.cache_builder import build_cache
from datamodules.loading.dataset import ManifestDataset, collate
from datamodules.loading.shared_memory import (
    PREFETCH_FACTOR,
    check_shared_memory,
    end_if_batch_is_lost,
)
from datamodules.manifest.leakage import leakage_stats, merge_near_duplicate_groups
from datamodules.manifest.manifest import (
    SPLITS,
    Manifest,
    present_classes,
    spacing_matrix,
    with_mask_reading,
)
from datamodules.manifest.splitting import assign_fold, assign_split
from datamodules.manifest.validation import (
    CleaningReport,
    check_cache_size,
    check_folds,
    check_images,
    check_splits,
)
from datamodules.sampling.config import EpochConfig, SamplingConfig
from datamodules.sampling.epoch_sampler import (
    EvaluationSampler,
    ResumableDataLoader,
    SamplingPool,
    TrainingSampler,
)
from datamodules.sampling.hard_example_scores import attach_scores
from datamodules.sampling.strata import build_sampling_pool, subsample_negatives


@dataclass(frozen=True)
class TrainedWindow:
    """Window that the weights of a checkpoint were trained with.

    Attributes:
        window: Values that were displayed black and white; None if all training images had 8 bits.
        given: True if the user set it, so that it replaced the windows of DICOMs too.
    """

    window: Window | None
    given: bool

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "TrainedWindow":
        """Read it from the `window` of a checkpoint."""
        ends = state["range"]
        return cls(None if ends is None else _as_window(ends), bool(state["given"]))

    @property
    def as_state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        ends = [list(each) if isinstance(each, tuple) else each for each in self.window or ()]
        return {"range": ends or None, "given": self.given}


def _as_window(ends: Any) -> Window:
    """Return a window of plain lists: two numbers, or two numbers per channel."""
    if isinstance(ends[0], list | tuple):
        return tuple((float(low), float(high)) for low, high in ends)
    return float(ends[0]), float(ends[1])


NumWorkers = int | Literal["auto"]


def build_training_loader(
    dataset: ManifestDataset,
    pool: SamplingPool,
    epoch_config: Callable[[int], EpochConfig],
    trainer: Trainer | None,
    num_workers: NumWorkers,
) -> DataLoader:
    """Build the training loader; its samples follow from (seed, epoch) and are sharded over ranks.

    Its position within the epoch is saved with a checkpoint.
    """

    def current_epoch() -> int:
        """Return the number of the epoch whose batches are loaded."""
        # not trainer.current_epoch: a fit that is resumed between two epochs starts its workers
        # while that is still the old epoch
        return trainer.fit_loop.epoch_progress.current.processed if trainer else 0  # type: ignore[attr-defined]

    def consumed_batches() -> int:
        """Return the number of batches of this epoch that were trained on."""
        return (
            trainer.fit_loop.epoch_loop.batch_progress.current.ready
            % int(trainer.num_training_batches)
            if trainer
            else 0
        )

    keys = TrainingSampler(pool, epoch_config, dataset.seed, current_epoch, *get_rank(trainer))
    return ResumableDataLoader(
        consumed=consumed_batches,
        dataset=dataset,
        batch_sampler=keys,
        **_loader_arguments(dataset.seed, num_workers),
    )


def build_evaluation_loader(
    dataset: ManifestDataset,
    rows: np.ndarray,
    trainer: Trainer | None,
    batch_size: int,
    image_size: Callable[[], ImageSize],
    num_workers: NumWorkers,
) -> DataLoader:
    """Build a loader of every row once, sharded over the trainer's ranks."""
    keys = EvaluationSampler(rows, batch_size, image_size, *get_rank(trainer))
    return DataLoader(dataset, batch_sampler=keys, **_loader_arguments(dataset.seed, num_workers))


def get_rank(trainer: Trainer | None) -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)


def _loader_arguments(seed: int, num_workers: NumWorkers) -> dict[str, Any]:
    workers = resolve_num_workers(num_workers)
    return {
        "collate_fn": collate,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "generator": (
            torch.Generator().manual_seed(seed)
        ),  # without its own generator a loader uses up the global random stream
        "prefetch_factor": PREFETCH_FACTOR if workers else None,
        "worker_init_fn": _prepare_worker,
    }


def _prepare_worker(worker: int) -> None:
    end_if_batch_is_lost()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler of the process it comes from


def resolve_num_workers(num_workers: NumWorkers) -> int:
    """Return the number of loader processes; `auto` is replaced by the default."""
    return default_num_workers() if num_workers == "auto" else num_workers


def default_num_workers() -> int:
    """Return the number of loader processes for one device, at most 8.

    There are none on a CPU of up to two cores, where the training step needs them.
    """
    cores = joblib.cpu_count()
    devices = max(1, torch.cuda.device_count())
    return (
        0 if cores <= 2 and not torch.cuda.is_available() else max(1, min(8, cores // devices - 1))
    )


class ServingDataModule(LightningDataModule):
    """Loaders of a table and a cache; `ManifestDataModule` builds both and documents the values."""

    root: Path
    table: Any  # a Manifest
    cache: Any  # an ImageCache
    image_size: ImageSize
    channels: int
    evaluation_size: int | str
    batch_size: int
    eval_batch_size: int
    batches_per_epoch: int | None
    overfit_batches: int
    augmentation: Pipeline | None
    sampling: SamplingConfig
    seed: int
    predict_splits: tuple[str, ...]
    num_workers: NumWorkers
    window: Window | None = None  # as the user gave it; None for that of the training images
    image_kind = ""  # plural, for the headings of pages; empty: the name of the folder stands there
    can_validate = True  # False for images without annotations

    def __init__(self) -> None:
        super().__init__()
        self.epoch_config: Callable[[int], EpochConfig] = lambda epoch: (
            self.base_epoch_config
        )  # a curriculum replaces it
        self.trained_size: ImageSize | None = (
            None  # image size of the weights' training, if a checkpoint records it
        )
        self.size_is_given = (
            False  # True if the user set a size for evaluation, which wins over `trained_size`
        )
        self._training_windows: dict[Path, Window | None] = {}  # by the folder of the cache
        self.unreadable: dict[str, str] = {}  # id -> reason, of files that predictions leave out
        self.passed_over: dict[Path, str] = {}  # file -> reason, of files that are no images
        self.predicted_ids: frozenset[str] = frozenset()  # that do=[predict] need not predict again
        self.trained_window: TrainedWindow | None = None  # of a checkpoint, if it records one

    @property
    def base_epoch_config(self) -> EpochConfig:
        """Configuration of every epoch, unless a curriculum sets another one."""
        wanted = self.sampling.positive_fraction, self.sampling.strata_weights
        batches = self.overfit_batches or self.batches_per_epoch
        return EpochConfig(self.image_size, self.batch_size, batches, *wanted)

    @cached_property
    def pool(self) -> SamplingPool:
        """Training rows with their sampling weights."""
        pool = build_sampling_pool(self.table, self.cache, self.sampling, self.seed)
        pool.check(self.base_epoch_config, "datamodule.sampling")
        if self.overfit_batches:
            images = self.overfit_batches * self.batch_size
            rows, *_ = pool.sample(
                self.base_epoch_config, images, np.random.default_rng([self.seed, 0])
            )
            return pool.restrict(rows)
        return pool

    @property
    def images(self) -> np.ndarray:
        """Number of training images without and with each class, `classes x 2`."""
        rows, _ = subsample_negatives(self.table, self.cache, self.sampling, self.seed)
        positives = present_classes(self.table, self.cache)[rows].sum(0)
        return np.stack([len(rows) - positives, positives], 1)

    @property
    def pixels(self) -> np.ndarray:
        """Number of pixels outside and inside the masks of each class, `classes x 2`.

        They are counted over the training rows that are used, at each image's own size, without
        ignored pixels.
        """
        rows, _ = subsample_negatives(self.table, self.cache, self.sampling, self.seed)
        inside = np.asarray(self.cache.areas)[rows].sum(0)
        counted = self.cache.counted_pixels[rows].sum()
        return np.stack([counted - inside, inside], 1)

    @property
    def window_is_given(self) -> bool:
        """True if the user sets the window, or set it for the training of the weights."""
        return self.window is not None or (
            self.trained_window is not None and self.trained_window.given
        )

    def display_window(self) -> Window | None:
        """Return the window that displays the images; None if none has more than 8 bits."""
        return self.find_window(self.cache)

    def find_window(self, cache: ImageCache) -> Window | None:
        """Return the window that displays the images of a cache.

        It is the one that the user set, or the one that the weights were trained with, or that of
        the training images.

        Raises:
            ManifestError: Images have more than 8 bits, but those of the training do not, so that
                nothing tells how to display them.
        """
        if self.window is not None or not cache.deep.any():
            return self.window
        if self.trained_window is None:
            found = self._training_window(cache)
        else:
            found = self.trained_window.window
        if found is None:
            deep = np.flatnonzero(cache.deep)
            low, high = range_of_channel(cache.common_window(deep), 0) or (0.0, 1.0)
            first = self.table.rows["image"].iat[int(deep[0])]
            problem = (
                f"{len(deep)} image{'s have' if len(deep) > 1 else ' has'} more than 8 bits, such"
                f" as {first}, and no training image has, so that nothing tells which values are"
                " black and white"
            )
            fix = f"set datamodule.window=[low,high], such as [{low:g},{high:g}]"
            raise ManifestError(f"{self.root}: {problem}; {fix}")
        return found

    def _training_window(self, cache: ImageCache) -> Window | None:
        """Return the window of the training images, computed once for each cache."""
        if cache.folder not in self._training_windows:
            rows = self.table.where("train") if self.can_validate else np.arange(len(self.table))
            self._training_windows[cache.folder] = cache.common_window(rows)
        return self._training_windows[cache.folder]

    def check_workers(self) -> None:
        """Refuse loader processes if there is too little shared memory for their batches."""
        images = min(self.batch_size, self.eval_batch_size)
        pixels = self.image_size.height * self.image_size.width * self.channels
        check_shared_memory(resolve_num_workers(self.num_workers), images * pixels)

    @cached_property
    def test_spacing(self) -> np.ndarray | None:
        """Pixel spacing of all rows in mm, `N x 2` (row, column); NaN outside of test.

        None if the spacing of a test image is unknown.
        """
        rows = self.table.where("test")
        found = spacing_matrix(self.table, rows)
        if found is None or not len(rows):
            return None
        spacing = np.full((len(self.table), 2), np.nan)
        spacing[rows] = found
        return spacing

    def dataset(self, evaluation: bool, spacing: np.ndarray | None = None) -> ManifestDataset:
        """Return the dataset of all rows, augmented or with the ground truth for evaluation.

        Args:
            evaluation: True for evaluation, False for training.
            spacing: Pixel spacing of all rows in mm, `N x 2`, for measurements on the masks.
        """
        if evaluation:
            return ManifestDataset(
                self.cache,
                self.table,
                self.seed,
                evaluation_size=self.evaluation_size,
                spacing=spacing,
                window=self.display_window(),
            )
        return ManifestDataset(
            self.cache,
            self.table,
            self.seed,
            self.augmentation,
            weights=self._loss_weights(),
            window=self.display_window(),
        )

    def _loss_weights(self) -> np.ndarray | None:
        if not (self.sampling.hard_in_loss and self.sampling.uses_hard_examples):
            return None
        weights = np.ones(len(self.table))
        weights[self.pool.rows] = self.pool.hard_weight
        return weights

    def batches(self, world_size: int, epoch: int = 0) -> int:
        """Return the number of training batches of an epoch on each rank."""
        return self.pool.batches(self.epoch_config(epoch), world_size)

    def current_image_size(self) -> ImageSize:
        """Return the image size for evaluation.

        In a fit it is the size of the running epoch, otherwise the size that the weights were
        trained on. A size that the user gave for a test or a prediction wins over the latter.
        """
        fitting = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        if fitting and self.trainer:
            return self.epoch_config(self.trainer.current_epoch).image_size
        return self.image_size if self.size_is_given else self.trained_size or self.image_size

    def train_dataloader(self) -> DataLoader:
        """Return the loader of augmented batches in an order that follows from (seed, epoch)."""
        return build_training_loader(
            self.dataset(evaluation=False),
            self.pool,
            self.epoch_config,
            self.trainer,
            self.num_workers,
        )

    def val_dataloader(self) -> DataLoader:
        """Return the loader of every val image once, or of the images that are overfitted."""
        if self.overfit_batches:
            return self._rows_dataloader(np.sort(self.pool.rows), self.batch_size)
        return self._evaluation_dataloader("val")

    def test_dataloader(self) -> DataLoader:
        """Return the loader of every test image once, with its ground truth."""
        return self._evaluation_dataloader("test", spacing=self.test_spacing)

    def predict_dataloader(self) -> DataLoader:
        """Return the loader of every image of `predict_splits` once.

        Those that an interrupted prediction has finished are left out.
        """
        return self._rows_dataloader(self.rows_to_predict(self.predicted_ids), self.eval_batch_size)

    def rows_to_predict(self, finished: Collection[str]) -> np.ndarray:
        """Return the rows of `predict_splits` without the finished ids."""
        rows = self.table.rows
        wanted = rows["split"].isin(self.predict_splits) & ~rows["id"].isin(list(finished))
        return np.flatnonzero(wanted)

    def _evaluation_dataloader(self, *splits: str, spacing: np.ndarray | None = None) -> DataLoader:
        rows = np.flatnonzero(self.table.rows["split"].isin(splits))
        return self._rows_dataloader(rows, self.eval_batch_size, spacing)

    def _rows_dataloader(
        self, rows: np.ndarray, batch_size: int, spacing: np.ndarray | None = None
    ) -> DataLoader:
        return build_evaluation_loader(
            self.dataset(True, spacing),
            rows,
            self.trainer,
            batch_size,
            self.current_image_size,
            self.num_workers,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the window that these weights are trained with, if they need one.

        Their image size is there too, if it is not `image_size`.
        """
        size, window = self.current_image_size(), self.current_window()
        return ({"image_size": size.as_config} if size != self.image_size else {}) | (
            {} if window.window is None else {"window": window.as_state}
        )

    def current_window(self) -> TrainedWindow:
        """Return the window of this run, as a checkpoint records it."""
        return TrainedWindow(self.display_window(), self.window_is_given)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore image size and window that these weights were trained with."""
        if "image_size" in state_dict:
            self.trained_size = ImageSize.from_config(state_dict["image_size"])
        if "window" in state_dict:
            self.trained_window = TrainedWindow.from_state(state_dict["window"])


@validated
class ManifestDataModule(ServingDataModule, ABC):
    """Data module that checks the data once, before training, and loads train, val and test.

    Args:
        root: The data set's folder; nothing is ever written there.
        cache_dir: Folder in which decoded images are kept between runs.
        image_size: The network's input in pixels: the side of a square, or [height, width].
        cache_size: Size at which decoded images are kept, in the same form; `image_size` if None.
            Set a larger one where the augmentation crops.
        evaluation_size: `native` to evaluate at each image's own size, or the longest side in
            pixels of the evaluation grid.
        batch_size: Images per training step and device.
        eval_batch_size: The same in evaluation; `batch_size` if None.
        batches_per_epoch: Training steps per epoch; None takes as many full batches as possible
            without showing an image twice.
        overfit_batches: Number of batches of the same images to train on and to validate on; 0 for
            a normal fit.
        channels: 1 keeps images gray, 3 makes them RGB. Any number is possible for images of which
            each channel is a file (`case_0000`, `case_0001`) or a frame (`frame=channels`).
        augmentation: Random transforms for training; none if None.
        sampling: Sampling of the training images in an epoch; None samples all images equally.
        cls_prob: Run folder of a pre-classifier, or its cls_prob.csv with the probabilities that
            identify hard images.
        split: `folders` keeps the data set's own split; `group` makes a new one by group, 80/10/10.
        folds: Number of folds that `fold_pool` is cut into; 0 for none.
        fold: Number of the fold that becomes val.
        fold_pool: Splits that are cut into folds: `train_val`, or `train` alone, while val and test
            are both kept out as test.
        seed: Seed of the split, the order and the augmentation.
        near_duplicates: `report` nearly identical images in different splits, or `join` them into
            one group before `split=group`.
        allow_leaks: Continue although a group or a file is in two splits.
        predict_splits: Splits whose images do=[predict] predicts on.
        num_workers: Number of loader processes; `auto` chooses it by the number of cores.
        inverted_masks: `refuse` masks that cover most pixels of most images, `invert` to swap
            foreground and background of every mask, or `keep` them as they are.
        mask_values: Class, or list of classes, of each value of the mask images: a number, or a
            color as `#rrggbb`; None if the values decide. The name `background` is no class.
        ignore_value: Value or color of mask pixels that neither train nor score; None for none.
        window: Values that are displayed black and white, [low, high], of images of more than 8
            bits; DICOMs then use it on their rescaled values in place of their own window. `auto`
            takes the 0.5th and 99.5th percentile of the training images, and the own windows of
            DICOMs.
        frame: Number from 0 of the frame that is used of multi-page TIFFs, animations, multi-frame
            DICOMs and 4-D volumes; None refuses such files, and `channels` reads all frames of a
            file as the channels of one image.
        axis: Axis that the slices of a volume are perpendicular to, 0, 1 or 2 in the order in which
            nibabel indexes the file (0 varies fastest); `auto` takes the axis of the largest
            spacing, and the last one if no spacing is larger than both others.
        max_pixels: Largest image that is decoded, in pixels.
        max_file_bytes: Largest file that is read whole, in bytes; a volume may decode to four times
            as much.
        phantom: Function that first writes a synthetic data set to `root`; None for real data.
    """

    def __init__(
        self,
        root: FilePath,
        cache_dir: FilePath,
        image_size: NetworkInputSize,
        evaluation_size: PositiveInt | Literal["native"] = "native",
        cache_size: ImageSizeArgument | None = None,
        batch_size: PositiveInt = 16,
        eval_batch_size: PositiveInt | None = None,
        batches_per_epoch: PositiveInt | None = None,
        overfit_batches: NonNegativeInt = 0,
        channels: PositiveInt = 1,
        augmentation: Pipeline | None = None,
        sampling: SamplingConfig | None = None,
        cls_prob: str | None = None,
        split: Literal["folders", "group"] = "folders",
        folds: NonNegativeInt = 0,
        fold: NonNegativeInt | None = None,
        fold_pool: Literal["train_val", "train"] = "train_val",
        seed: NonNegativeInt = 0,
        near_duplicates: Literal["report", "join"] = "report",
        allow_leaks: bool = False,
        predict_splits: Annotated[
            Sequence[Literal["train", "val", "test"]], Field(min_length=1)
        ] = ("test",),
        num_workers: NonNegativeInt | Literal["auto"] = "auto",
        inverted_masks: Literal["refuse", "invert", "keep"] = "refuse",
        mask_values: Mapping[MaskValue, str | Sequence[str]] | None = None,
        ignore_value: MaskValue | None = None,
        window: WindowRange | Literal["auto"] = "auto",
        frame: NonNegativeInt | Literal["channels"] | None = None,
        axis: VolumeAxis = "auto",
        max_pixels: PixelCount = MAX_IMAGE_PIXELS,
        max_file_bytes: PositiveInt = MAX_FILE_BYTES,
        phantom: Callable[[Path], None] | None = None,
    ) -> None:
        super().__init__()
        check_partial("phantom", phantom)
        self.root, self.cache_dir = Path(root).expanduser(), Path(cache_dir).expanduser()
        self.image_size = ImageSize.from_config(image_size)
        self._cache_size_follows_image_size = cache_size is None
        self.cache_size = (
            self.image_size if cache_size is None else check_cache_size(cache_size, self.image_size)
        )
        self.evaluation_size, self.batches_per_epoch = evaluation_size, batches_per_epoch
        self.overfit_batches = overfit_batches
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.channels, self.augmentation = channels, augmentation
        self.sampling, self.cls_prob = sampling or SamplingConfig(), cls_prob
        self.split, self.seed = split, seed
        self.folds, self.fold, self.fold_pool = folds, fold, fold_pool
        self.near_duplicates, self.allow_leaks = near_duplicates, allow_leaks
        self.predict_splits = tuple(name for name in SPLITS if name in predict_splits)
        self.num_workers, self.phantom = num_workers, phantom
        self.inverted_masks = inverted_masks
        self.mask_values, self.ignore_value = mask_values, ignore_value
        self.window = None if isinstance(window, str) else _as_window(window)
        self.frame, self.axis = frame, axis
        self.max_pixels, self.max_file_bytes = max_pixels, max_file_bytes
        self.cleaning = CleaningReport()
        self.leaks: list[str] = []
        self.folder_leaks: dict[str, int] = {}  # leaks of the data set's own split
        check_folds(folds, fold)

    def set_image_size(self, image_size: ImageSize) -> None:
        """Set another image size before the data is prepared.

        The cache follows it, unless `cache_size` was given.
        """
        self.image_size = image_size
        if self._cache_size_follows_image_size:
            self.cache_size = image_size

    @abstractmethod
    def manifest(self) -> Manifest:
        """Return the manifest: one row per image under `self.root`."""

    @property
    def reader(self) -> ImageReader:
        """Reader of the image files."""
        return ImageReader(self.frame, self.max_pixels, self.max_file_bytes, self.window_is_given)

    def describe_layout(self) -> dict[str, str]:
        """Return how the files are laid out, heading -> sentence; empty if that is fixed."""
        return {}

    def describe_reading(self) -> dict[str, str]:
        """Return how the files were read, heading -> sentence."""
        reading = self.table.mask_reading
        masks = {} if reading is None else {"mask values": reading.describe()}
        return self.describe_layout() | masks

    def read_manifest(self) -> Manifest:
        """Return `manifest()` with the settings of this data module for reading its files."""
        manifest = replace(
            self.manifest(), swap_masks=self.inverted_masks == "invert", reader=self.reader
        )
        return with_mask_reading(manifest, self.mask_values, self.ignore_value, self.cache_dir)

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
        elif self.sampling.uses_hard_examples and "cls_prob" in manifest.rows:
            for id in manifest.rows["id"][manifest.rows["cls_prob"].notna()]:
                self.cleaning.count(
                    "cls_prob came with the table: its network may have been trained on the image",
                    id,
                )
        return self.finalize_table(manifest)

    def finalize_table(self, manifest: Manifest) -> Manifest:
        """Return the final table; a hook for data sets whose rows depend on their split."""
        return manifest

    @cached_property
    def cache(self) -> ImageCache:
        """Cache of decoded images; leaks are checked here because the check needs the pixels."""
        cache = self.open_cache()
        self.leaks = check_splits(self.root, self.table, cache, self.allow_leaks)
        return cache

    def open_cache(self) -> ImageCache:
        """Build or open the cache; count unusual images, and refuse if most are unusual."""
        cache = build_cache(self.table, self.cache_size, self.channels, self.cache_dir)
        window = self.find_window(cache)
        check_images(self.root, self.table, cache, self.inverted_masks, self.cleaning, window)
        return cache

    def prepare_data(self) -> None:
        """Check everything and build the cache; safe to call from several processes at once.

        Lightning calls it before each fit, test and prediction. Phantoms that were deleted with the
        caches meanwhile are drawn again.
        """
        if self.phantom is not None:
            self.phantom(self.root)
        _ = self.cache
