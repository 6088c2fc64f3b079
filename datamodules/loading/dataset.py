"""Dataset of cached images: samples, augmentation and collation."""

from collections.abc import Sequence
from typing import Any, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from datamodules.augmentation import Pipeline
from datamodules.formats.gray_levels import Window
from datamodules.formats.image_cache import ImageCache
from datamodules.image_size import ImageSize, SampleKey
from datamodules.loading.letterbox import ContentBox, Letterbox, evaluation_grid_size, resize_image
from datamodules.manifest.manifest import Manifest, label_matrix


class Sample(TypedDict, total=False):
    """One image with its annotations; a batch has the same fields with a leading B.

    Strings, `content`, and truths of different sizes are lists in a batch.

    Attributes:
        id: Unique name of the image.
        group: Name shared by images that must stay in one split: the patient if known.
        image: uint8 `C x H x W`, 0..255.
        mask: uint8 `classes x H x W`, 0 or 1, on the canvas of `image`.
        ignored: uint8 `1 x H x W` on the same canvas, 1 where a pixel counts neither in training
            nor in scores; absent if all count.
        truth: Ground truth, uint8 `classes x h x w` on the evaluation grid (padding removed);
            absent in training.
        truth_ignored: The same as `ignored`, uint8 `1 x h x w` on the grid of `truth`.
        spacing: Pixel spacing of that grid in mm, from row to row and from column to column; only
            in a test, if it is known for every test image.
        content: Position of the image on the canvas.
        label: int or multi-hot float `classes`.
        weight: float, weight of this sample in the loss.
    """

    id: Any
    group: Any
    image: Tensor
    mask: Tensor
    ignored: Tensor
    truth: Any
    truth_ignored: Any
    spacing: Any
    content: Any
    label: Tensor
    weight: Tensor


class ManifestDataset(Dataset[Sample]):
    """Dataset that is indexed by `SampleKey`; every random number follows from (seed, key).

    Args:
        cache: Decoded images and, if the manifest has some, masks.
        manifest: Manifest with its rows in the order of the cache.
        seed: Seed of the augmentation.
        augmentation: Transforms for training, or None.
        evaluation_size: `native`, a number of pixels, or None if no truth is needed (training).
        weights: Weight of each row in the loss; None weighs all rows equally.
        spacing: Pixel spacing of each row at its own size in mm, `N x 2` (row, column), or None.
        window: Window that displays images of more than 8 bits; None if there are none.
    """

    def __init__(
        self,
        cache: ImageCache,
        manifest: Manifest,
        seed: int,
        augmentation: Pipeline | None = None,
        evaluation_size: int | str | None = None,
        weights: np.ndarray | None = None,
        spacing: np.ndarray | None = None,
        window: Window | None = None,
    ) -> None:
        self.cache = cache
        self.ids = np.array(
            manifest.rows["id"].tolist(), str
        )  # one block of memory, which reference counts of forked workers do not copy
        self.groups = np.array(manifest.rows["group"].tolist(), str)
        self.labels = label_matrix(manifest)
        self.classes = len(manifest.classes)
        self.seed = seed
        self.augmentation = augmentation
        self.evaluation_size = evaluation_size
        self.weights = None if weights is None else weights.astype(np.float32)
        self.spacing = spacing
        self.window = window

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: SampleKey) -> Sample:
        cv2.setNumThreads(0)  # the workers already run in parallel, and the main process trains
        planes = self._load_planes(key)
        sample = Sample(
            id=str(self.ids[key.row]),
            group=str(self.groups[key.row]),
            image=_channels_first(planes["image"]),
        )
        if self.labels is not None:
            sample["label"] = torch.from_numpy(self.labels[key.row])
        if self.weights is not None:
            sample["weight"] = torch.tensor(self.weights[key.row])
        if "mask" in planes:
            sample["mask"] = _channels_first(planes["mask"][..., : self.classes])
            if self.cache.has_ignored:
                sample["ignored"] = _channels_first(planes["mask"][..., self.classes :])
        if self.evaluation_size is not None:
            sample["content"] = Letterbox(*self._native_size(key.row), key.image_size).content
            if "mask" in planes:
                truth = self._load_truth(key.row, planes["mask"], sample["content"])
                sample["truth"] = truth[: self.classes]
                if self.cache.has_ignored:
                    sample["truth_ignored"] = truth[self.classes :]
                if self.spacing is not None:
                    sample["spacing"] = self._grid_spacing(key.row, sample["truth"].shape[-2:])
        return sample

    def batch(self, ids: list[str], image_size: ImageSize) -> Sample:
        """Return the images with these ids as one batch, in the given order."""
        row = {id: number for number, id in enumerate(self.ids.tolist())}
        return collate([self[SampleKey(row[id], 0, 0, image_size)] for id in ids])

    def _load_planes(self, key: SampleKey) -> dict[str, np.ndarray]:
        """Return the image and its mask, if any, augmented at the cache's size and then resized.

        In this order a crop loses no detail.
        """
        planes = {"image": self.cache.image(key.row, self.window)}
        if self.cache.has_masks:
            planes["mask"] = self.cache.mask(key.row, self.cache.planes)
        if self.augmentation is not None:
            planes = self.augmentation(planes, sample_seed(self.seed, key))
        size = ImageSize.from_config(key.image_size)
        if planes["image"].shape[:2] != size:
            planes["image"] = resize_image(planes["image"], *size)
            if "mask" in planes:
                planes["mask"] = (
                    resize_image(planes["mask"] * np.uint8(255), *size) >= 128
                ).astype(np.uint8)
        return planes

    def _native_size(self, row: int) -> tuple[int, int]:
        height, width = self.cache.sizes[row].tolist()
        return height, width

    def _grid_spacing(self, row: int, grid: Sequence[int]) -> tuple[float, float]:
        """Return the pixel spacing in mm of an evaluation grid (height, width)."""
        native = zip(self.spacing[row].tolist(), self._native_size(row), grid, strict=True)  # type: ignore[index]
        height, width = (step * pixels / cells for step, pixels, cells in native)
        return height, width

    def _load_truth(self, row: int, mask: np.ndarray, content: ContentBox) -> torch.Tensor:
        size = evaluation_grid_size(*self._native_size(row), self.evaluation_size or "native")
        if size == (content.height, content.width):
            inside = mask[
                content.top : content.top + content.height,
                content.left : content.left + content.width,
            ]
        else:
            native = self.cache.truth(row, self.cache.planes)
            inside = (
                native
                if native.shape[:2] == size
                else (resize_image(native * np.uint8(255), *size) >= 128).astype(np.uint8)
            )
        return _channels_first(inside)


def sample_seed(seed: int, key: SampleKey) -> int:
    """Return a 32-bit seed from (seed, row, epoch, repeat), equal on all machines and workers."""
    return int(np.random.SeedSequence([seed, key.row, key.epoch, key.repeat]).generate_state(1)[0])


def collate(samples: list[Sample]) -> Sample:
    """Stack samples into a batch; truths of different sizes stay a list."""
    batch = Sample(id=[s["id"] for s in samples], group=[s["group"] for s in samples])
    for name in ("image", "mask", "ignored", "label", "weight"):
        if name in samples[0]:
            batch[name] = default_collate([s[name] for s in samples])  # type: ignore[literal-required]
    for name in ("content", "spacing"):
        if name in samples[0]:
            batch[name] = [s[name] for s in samples]  # type: ignore[literal-required]
    for name in ("truth", "truth_ignored"):
        if name in samples[0]:
            planes = [s[name] for s in samples]  # type: ignore[literal-required]
            same = len({plane.shape for plane in planes}) == 1
            batch[name] = torch.stack(planes) if same else planes  # type: ignore[literal-required]
    return batch


def _channels_first(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
