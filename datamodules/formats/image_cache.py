"""Cache of decoded and resized images: memory-mapped arrays shared by workers, ranks and runs."""

from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.formats.rle import decode_rle


class ImageCache:
    """Reader of the arrays that `datamodules.loading.cache_builder.build_cache` wrote.

    Arrays are opened on first use; a pickled copy (spawned workers) holds only the path. Images are
    uint8 and letterboxed, masks are stored as bits, sizes are the original sizes in pixels, and
    digests are the sha256 of each image file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}

    def _open_array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    @cached_property
    def images(self) -> np.ndarray:
        """Images, uint8 `N x height x width x channels`."""
        return self._open_array("images")

    @cached_property
    def has_masks(self) -> bool:
        """True if the manifest that the cache was built from has masks."""
        return (self.folder / "masks.npy").is_file()

    @cached_property
    def masks(self) -> np.ndarray:
        """Masks, `N x height x width x bytes`, 8 classes per byte: bit c is class c."""
        return self._open_array("masks")

    @cached_property
    def sizes(self) -> np.ndarray:
        """Original heights and widths in pixels, `N x 2`."""
        return self._open_array("sizes")

    @cached_property
    def areas(self) -> np.ndarray:
        """Number of pixels of each class at the image's own size, `N x classes`."""
        return self._open_array("areas")

    @cached_property
    def true_areas(self) -> np.ndarray | None:
        """Number of pixels of each row's true mask, `N`; None if the manifest has no true masks.

        They are counted at the mask's own size; a row without a true mask has -1.
        """
        return (
            self._open_array("true_areas") if (self.folder / "true_areas.npy").is_file() else None
        )

    @cached_property
    def nearly_uniform(self) -> np.ndarray:
        """Bool `N`, True for images of nearly one gray value; see `image_io.is_nearly_uniform`."""
        return self._open_array("nearly_one_gray")

    @cached_property
    def soft_masks(self) -> np.ndarray:
        """Bool `N`, True for masks whose soft edges were cut."""
        return self._open_array("soft_masks")

    @cached_property
    def thumbnails(self) -> np.ndarray:
        """Gray thumbnails, uint8 `N x 32 x 32`."""
        return self._open_array("thumbnails")

    @cached_property
    def digests(self) -> np.ndarray:
        """Content hashes of the image files, `N`."""
        return self._open_array("digests")

    def mask(self, row: int, classes: int) -> np.ndarray:
        """Return a row's mask on the canvas, 0/1 `height x width x classes`."""
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
        """Return a row's mask at the image's own size, 0/1 `H x W x classes`."""
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
