"""Decoded and resized images as memory-mapped arrays, shared by workers, ranks and runs."""

from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.formats.rle import decode_rle


class ImageCache:
    """The arrays that `datamodules.loading.cache_builder.build_cache` wrote, opened lazily.

    A pickled copy (spawned workers) holds only the path. Images are uint8 and letterboxed, masks
    are bits, sizes are each image's own in pixels, digests are the sha256 of its file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}

    def _open_array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    @cached_property
    def images(self) -> np.ndarray:
        """All images, `N x size x size x channels`."""
        return self._open_array("images")

    @cached_property
    def has_masks(self) -> bool:
        """True if the manifest that the cache was built from has masks."""
        return (self.folder / "masks.npy").is_file()

    @cached_property
    def masks(self) -> np.ndarray:
        """All masks, `N x size x size x bytes`, 8 classes a byte: bit c is class c."""
        return self._open_array("masks")

    @cached_property
    def sizes(self) -> np.ndarray:
        """Heights and widths, `N x 2`."""
        return self._open_array("sizes")

    @cached_property
    def areas(self) -> np.ndarray:
        """Pixels of each class at the image's own size, `N x classes`."""
        return self._open_array("areas")

    @cached_property
    def true_areas(self) -> np.ndarray | None:
        """Pixels of each row's true mask, `N`, -1 where it has none; None without such a column.

        They are counted at the mask's own size.
        """
        return (
            self._open_array("true_areas") if (self.folder / "true_areas.npy").is_file() else None
        )

    @cached_property
    def nearly_uniform(self) -> np.ndarray:
        """Bool `N`: images of nearly one grey value; see `image_io.is_nearly_uniform`."""
        return self._open_array("nearly_one_grey")

    @cached_property
    def soft_masks(self) -> np.ndarray:
        """Bool `N`: masks whose soft edges were cut."""
        return self._open_array("soft_masks")

    @cached_property
    def thumbnails(self) -> np.ndarray:
        """Small grey pictures, `N x 32 x 32`."""
        return self._open_array("thumbnails")

    @cached_property
    def digests(self) -> np.ndarray:
        """Content hashes, `N`."""
        return self._open_array("digests")

    def mask(self, row: int, classes: int) -> np.ndarray:
        """The mask on the canvas, 0/1 `size x size x classes`."""
        packed = np.array(self.masks[row])
        return (
            packed
            if classes == 1
            else np.unpackbits(packed, axis=2, count=classes, bitorder="little")
        )

    @cached_property
    def _truth(self) -> tuple[np.ndarray, np.ndarray]:
        return self._open_array("truth"), self._open_array("truth_ends")

    def truth(self, row: int, classes: int) -> np.ndarray:
        """The true mask at the image's own size, 0/1 `H x W x classes`."""
        blob, ends = self._truth
        height, width = map(int, self.sizes[row])
        first = row * classes
        starts = [0 if cell == 0 else int(ends[cell - 1]) for cell in range(first, first + classes)]
        counts = [bytes(blob[start : ends[first + c]]) for c, start in enumerate(starts)]
        return decode_rle(
            [{"size": [height, width], "counts": text} if text else None for text in counts],
            height,
            width,
        )
