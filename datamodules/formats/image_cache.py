"""Cache of decoded and resized images: memory-mapped arrays shared by workers, ranks and runs."""

import json
from functools import cached_property
from pathlib import Path

import numpy as np

from datamodules.formats.gray_levels import (
    EIGHT_BITS,
    ChannelLevelMaps,
    LevelMap,
    Window,
    common_window,
    is_blank_in_window,
)
from datamodules.formats.rle import decode_rle

UNREADABLE_FILE = "unreadable.json"


class ImageCache:
    """Reader of the arrays that `datamodules.loading.cache_builder.build_cache` wrote.

    Arrays are opened on first use; a pickled copy (spawned workers) holds only the path. Images are
    letterboxed, masks are stored as bits, sizes are the original sizes in pixels, and digests are
    the sha256 of each image file. `image` is what a network or a person sees of a row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}

    def _open_array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    @cached_property
    def images(self) -> np.ndarray:
        """Images, `N x height x width x channels`.

        They are uint8 gray levels, or uint16 if any image of the data set is deep; `level_maps`
        then tells the meaning of each row.
        """
        return self._open_array("images")

    def image(self, row: int, window: Window | None) -> np.ndarray:
        """Return a row's displayed image on the canvas, uint8 `height x width x channels`.

        Args:
            row: Number of the row.
            window: Window of the data set, see `LevelMap.to_uint8`; rows of 8 bits do not need it.
        """
        return self.level_map(row).to_uint8(np.array(self.images[row]), window)

    @cached_property
    def level_maps(self) -> np.ndarray | None:
        """Meaning of each row's levels, LEVEL_MAP_DTYPE `N`; None if all images have 8 bits.

        It is `N x channels` if the channels are images of their own.
        """
        return (
            self._open_array("level_maps") if (self.folder / "level_maps.npy").is_file() else None
        )

    def level_map(self, row: int) -> LevelMap | ChannelLevelMaps:
        """Return the meaning of a row's levels."""
        if self.level_maps is None or not self.deep[row]:
            return EIGHT_BITS
        if self.level_maps.ndim == 2:
            return ChannelLevelMaps(tuple(LevelMap(*each.item()) for each in self.level_maps[row]))
        return LevelMap(*self.level_maps[row].item())

    @cached_property
    def deep(self) -> np.ndarray:
        """Bool `N`, True for images that need a window."""
        if self.level_maps is None:
            return np.zeros(len(self.sizes), bool)
        return np.asarray(self.level_maps["deep"].reshape(len(self.sizes), -1).any(1))

    def common_window(self, rows: np.ndarray) -> Window | None:
        """Return the window of some deep images together; None if none of the rows is deep."""
        if not self.deep[rows].any():
            return None
        quantiles = self._open_array("value_quantiles")
        return common_window(np.asarray(quantiles[rows]), self._open_array("value_pixels")[rows])

    def blank(self, window: Window | None) -> np.ndarray:
        """Return True for images that show nearly one gray value in a window, bool `N`."""
        flat = np.array(self.nearly_uniform)
        if window is not None and self.level_maps is not None:
            flat |= is_blank_in_window(np.asarray(self._open_array("value_quantiles")), window)
        return flat

    @cached_property
    def notes(self) -> np.ndarray:
        """Bits of what is noted about each image, uint8 `N`; see `SourceImage.notes`."""
        return self._open_array("notes")

    @cached_property
    def unreadable(self) -> dict[int, str]:
        """Rows that could not be read, with the reason; only where `build_cache` skips them."""
        path = self.folder / UNREADABLE_FILE
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {int(row): found[row] for row in sorted(found, key=int)}

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
        """Bool `N`, True for 8-bit images of nearly one gray value; see `is_nearly_uniform`."""
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

    @cached_property
    def planes(self) -> int:
        """Number of planes of each mask: one per class, and one of ignored pixels if there are."""
        return len(self._truth[1]) // max(1, len(self.sizes))

    @property
    def has_ignored(self) -> bool:
        """True if the last plane of the masks is that of pixels that neither train nor score."""
        return self.has_masks and self.planes > self.areas.shape[1]

    @cached_property
    def counted_pixels(self) -> np.ndarray:
        """Pixels of each image that are not ignored, `N`."""
        pixels = np.asarray(self.sizes, np.int64).prod(1)
        return pixels - self._open_array("ignored_areas") if self.has_ignored else pixels

    def mask(self, row: int, planes: int) -> np.ndarray:
        """Return the first planes of a row's mask on the canvas, 0/1 `height x width x planes`."""
        packed = np.array(self.masks[row])
        return (
            packed
            if self.planes == 1
            else np.unpackbits(packed, axis=2, count=planes, bitorder="little")
        )

    @cached_property
    def _truth(self) -> tuple[np.ndarray, np.ndarray]:
        return self._open_array("truth"), self._open_array("truth_ends")

    def truth(self, row: int, planes: int) -> np.ndarray:
        """Return the first planes of a row's mask at the image's own size, 0/1 `H x W x planes`."""
        blob, ends = self._truth
        height, width = map(int, self.sizes[row])
        first = row * self.planes
        starts = [0 if cell == 0 else int(ends[cell - 1]) for cell in range(first, first + planes)]
        counts = [bytes(blob[start : ends[first + c]]) for c, start in enumerate(starts)]
        return decode_rle(
            [{"size": [height, width], "counts": text} if text else None for text in counts],
            height,
            width,
        )
