"""Cache of decoded and resized images, shared by workers, ranks and runs.

Nothing that it returns can differ from what was written. Small files are compared with their
checksums when the cache is opened, and each image, mask and truth when a process first reads it. A
damaged row is decoded from its image file there and then, and the cache is rebuilt at the next
start. All files are held open, so that the cache may be deleted while a run uses it.
"""

import hashlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from datamodules.errors import UserError
from datamodules.formats.gray_levels import (
    EIGHT_BITS,
    ChannelLevelMaps,
    LevelMap,
    Window,
    common_window,
    is_blank_in_window,
)
from datamodules.formats.kept_result import SUFFIX, load_result
from datamodules.formats.rle import decode_rle
from datamodules.formats.row_files import DamagedFile, OpenFile, RowReader, checksum

CONTENTS_FILE = f"contents{SUFFIX}"
DAMAGE_FILE = "damaged.txt"
UNREADABLE_FILE = "unreadable.json"
CHECKSUMS = "row_checksums"
IMAGES, MASKS, TRUTH = "images", "masks", "truth"
ROW_FILES = (IMAGES, MASKS, TRUTH)  # in the order of the columns of CHECKSUMS
READ_WHEN_USED = ("thumbnails", "value_quantiles")  # some hundred MB for large data sets


class CacheFile(BaseModel):
    """Size and checksum of one file of a cache.

    Attributes:
        size: Length in bytes.
        header: Number of first bytes that `checksum` covers; None if it covers the whole file, and
            the rest has a checksum for each row.
        checksum: CRC-32.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    size: int
    header: int | None = None
    checksum: int


class CacheContents(BaseModel):
    """Files of a cache, as CONTENTS_FILE lists them.

    Attributes:
        name: Name of the cache's folder, which tells version, sources and settings.
        files: Every file by its name.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    files: dict[str, CacheFile]


@dataclass(frozen=True)
class RowPixels:
    """Pixels of one row as they are stored.

    Attributes:
        image: Levels on the canvas, `height x width x channels`.
        mask: Bits on the canvas, uint8 `height x width x bytes`; None without masks.
        truth: RLE counts of the mask of each plane, empty texts where a plane has none.
    """

    image: np.ndarray
    mask: np.ndarray | None
    truth: list[bytes]


class CacheSource(Protocol):
    """Files that a cache was built from; a copy in another process can use it too."""

    def decode_pixels(self, row: int) -> RowPixels:
        """Decode one row again."""
        ...

    def build(self) -> "ImageCache":
        """Open the cache, or build it where it is missing or damaged."""
        ...


class _Files:
    """Open files of a cache, all compared with their checksums but for the rows.

    Args:
        folder: Folder of the cache.
        despite_note: True to open it although a row of it is known to be damaged.

    Raises:
        DamagedFile: A file is missing or damaged; the message names it.
    """

    def __init__(self, folder: Path, despite_note: bool = False) -> None:
        contents = _read_contents(folder, despite_note)
        self.number = folder.stat().st_ino
        self._listed = contents.files
        self._open = {
            name: OpenFile(folder / name)
            for name in contents.files
            if Path(name).stem in (*ROW_FILES, *READ_WHEN_USED)
        }
        self.small: dict[str, np.ndarray] = {}
        self.unreadable: dict[int, str] = {}
        headers: dict[str, bytes] = {}
        for name, listed in contents.files.items():
            file = self._open.get(name) or OpenFile(folder / name)
            if file.size != listed.size:
                raise DamagedFile(f"{name} has {file.size} of {listed.size} bytes")
            length = listed.size if listed.header is None else listed.header
            data = file.read(0, length, listed.checksum)
            if listed.header is not None:
                headers[Path(name).stem] = data
            elif name == UNREADABLE_FILE:
                self.unreadable = {int(row): text for row, text in json.loads(data).items()}
            elif name not in self._open:
                self.small[Path(name).stem] = _as_array(data)
        self.rows = {
            name: RowReader(self._open[f"{name}.npy"], headers[name], self.small[CHECKSUMS][:, n])
            for n, name in enumerate(ROW_FILES[:2])
            if name in headers
        }
        self._truth_start = len(headers.get(TRUTH, b""))
        self._truth_compared = np.zeros(len(self.small["sizes"]), bool)

    def has(self, name: str) -> bool:
        """Return True if the cache has an array of this name."""
        return f"{name}.npy" in self._listed

    def array(self, name: str) -> np.ndarray:
        """Return a whole array.

        Raises:
            DamagedFile: It was damaged after the cache was opened.
        """
        if name in self.small:
            return self.small[name]
        listed = self._listed[f"{name}.npy"]
        return _as_array(self._open[f"{name}.npy"].read(0, listed.size, listed.checksum))

    def truth(self, row: int, planes: int) -> list[bytes]:
        """Return the RLE counts of all planes of a row.

        Raises:
            DamagedFile: They are damaged.
        """
        cells = self.small["truth_ends"][row * planes : (row + 1) * planes].tolist()
        start = int(self.small["truth_ends"][row * planes - 1]) if row else 0
        expected = int(self.small[CHECKSUMS][row, 2])
        data = self._open[f"{TRUTH}.npy"].read(
            self._truth_start + start,
            cells[-1] - start,
            None if self._truth_compared[row] else expected,
            f", row {row},",
        )
        self._truth_compared[row] = True
        return [
            data[first - start : end - start]
            for first, end in zip([start, *cells], cells, strict=False)
        ]


def _read_contents(folder: Path, despite_note: bool) -> CacheContents:
    if not despite_note and (folder / DAMAGE_FILE).exists():
        reason = (folder / DAMAGE_FILE).read_text(encoding="utf-8", errors="replace")[:300]
        raise DamagedFile(reason.strip() or DAMAGE_FILE)
    if not folder.is_dir():
        raise DamagedFile("it is no folder")
    try:
        contents = CacheContents.model_validate(load_result(folder / CONTENTS_FILE))
    except ValidationError as error:
        raise DamagedFile(f"{CONTENTS_FILE} is missing or damaged") from error
    if contents.name != folder.name:
        raise DamagedFile(f"it is {contents.name}, which was moved")
    return contents


def _as_array(data: bytes) -> np.ndarray:
    array = np.load(io.BytesIO(data), allow_pickle=False)
    array.setflags(write=False)
    return array


class ImageCache:
    """Reader of the arrays that `datamodules.loading.cache_builder.build_cache` wrote.

    All files are opened at once, and forked processes share them; a pickled copy (spawned workers)
    opens them again, and builds the cache again where it is gone. Images are letterboxed, masks are
    stored as bits, sizes are the original sizes in pixels, and digests are the sha256 of each image
    file. `image` is what a network or a person sees of a row.

    Args:
        folder: Folder of this cache.
        source: Files that it was built from.

    Raises:
        DamagedFile: A file is missing or damaged; the message names it.
    """

    def __init__(self, folder: Path, source: CacheSource) -> None:
        self.folder, self._source = folder, source
        self._opened: _Files | None = _Files(folder)
        self._identity = _identity(self._opened)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_source": self._source, "_identity": self._identity}

    @property
    def _files(self) -> _Files:
        if self.__dict__.get("_opened") is None:
            self._opened = self._open_again()
        return self._opened  # type: ignore[return-value]

    def _open_again(self) -> _Files:
        """Open the files in a spawned process.

        Raises:
            UserError: The cache is gone or damaged, and the image files have changed since.
        """
        try:
            files = _Files(self.folder, despite_note=True)
        except DamagedFile:
            files = self._source.build()._files
        if _identity(files) != self._identity:
            raise UserError(
                f"the cache {self.folder} was deleted or replaced during the run, and the image"
                " files have changed since it began; start the same command again"
            )
        return files

    def _read(
        self, row: int, read: Callable[[_Files], Any], again: Callable[[RowPixels], Any]
    ) -> Any:
        """Return something of a row; where it is damaged, from its image file."""
        try:
            return read(self._files)
        except DamagedFile as damage:
            self._report(damage)
            return again(self._decode_again(row, damage))

    def _decode_again(self, row: int, damage: DamagedFile) -> RowPixels:
        """Decode a damaged row; its checksums prove that nothing but the same pixels come out.

        Raises:
            UserError: The image file is missing, or does not give the same pixels.
        """
        problem = f"the cache {self.folder} is damaged ({damage})"
        fix = "start the same command again, which rebuilds it"
        try:
            pixels = self._source.decode_pixels(row)
        except UserError as error:
            raise UserError(f"{problem}, and {error}") from error
        image = np.ascontiguousarray(pixels.image, self._files.rows[IMAGES].dtype)
        found = [checksum(image), checksum(b"" if pixels.mask is None else pixels.mask)]
        if [*found, checksum(b"".join(pixels.truth))] != self._files.small[CHECKSUMS][row].tolist():
            raise UserError(f"{problem}, and its image file gives other pixels by now; {fix}")
        return RowPixels(image, pixels.mask, pixels.truth)

    def _report(self, damage: DamagedFile) -> None:
        """Leave a note by which the next start rebuilds the cache; say it once."""
        try:
            if self._files.number != self.folder.stat().st_ino:  # it was rebuilt meanwhile
                return
            with (self.folder / DAMAGE_FILE).open("x", encoding="utf-8") as file:
                file.write(str(damage))
        except FileExistsError:  # another row or process has said it
            return
        except OSError:  # a cache that may not be written, or that was deleted: say it once
            if self.__dict__.setdefault("_reported", False):
                return
            self._reported = True
        print(
            f"the cache {self.folder} is damaged ({damage}); its damaged images are decoded from"
            " their files, and the next start rebuilds it",
            file=sys.stderr,
            flush=True,
        )

    def _array(self, name: str) -> np.ndarray:
        """Return a whole array.

        Raises:
            UserError: It was damaged after the cache was opened.
        """
        try:
            return self._files.array(name)
        except DamagedFile as damage:
            self._report(damage)
            raise UserError(
                f"the cache {self.folder} was damaged during the run ({damage}); start the same"
                " command again, which rebuilds it"
            ) from damage

    @property
    def images(self) -> RowReader:
        """Images, `N x height x width x channels`; a damaged one raises DamagedFile here.

        They are uint8 gray levels, or uint16 if any image of the data set is deep; `level_maps`
        then tells the meaning of each row.
        """
        return self._files.rows[IMAGES]

    @property
    def masks(self) -> RowReader:
        """Masks, `N x height x width x bytes`, 8 classes per byte: bit c is class c."""
        return self._files.rows[MASKS]

    def image(self, row: int, window: Window | None) -> np.ndarray:
        """Return a row's displayed image on the canvas, uint8 `height x width x channels`.

        Args:
            row: Number of the row.
            window: Window of the data set, see `LevelMap.to_uint8`; rows of 8 bits do not need it.
        """
        levels = self._read(
            row, lambda files: files.rows[IMAGES].row(row), lambda pixels: pixels.image
        )
        return self.level_map(row).to_uint8(levels, window)

    @property
    def level_maps(self) -> np.ndarray | None:
        """Meaning of each row's levels, LEVEL_MAP_DTYPE `N`; None if all images have 8 bits.

        It is `N x channels` if the channels are images of their own.
        """
        return self._files.small.get("level_maps")

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
        return common_window(
            self._array("value_quantiles")[rows], self._files.small["value_pixels"][rows]
        )

    def blank(self, window: Window | None) -> np.ndarray:
        """Return True for images that show nearly one gray value in a window, bool `N`."""
        flat = np.array(self.nearly_uniform)
        if window is not None and self.level_maps is not None:
            flat |= is_blank_in_window(self._array("value_quantiles"), window)
        return flat

    @property
    def notes(self) -> np.ndarray:
        """Bits of what is noted about each image, uint8 `N`; see `SourceImage.notes`."""
        return self._files.small["notes"]

    @property
    def unreadable(self) -> dict[int, str]:
        """Rows that could not be read, with the reason; only where `build_cache` skips them."""
        return dict(sorted(self._files.unreadable.items()))

    @property
    def has_masks(self) -> bool:
        """True if the manifest that the cache was built from has masks."""
        return MASKS in self._files.rows

    @property
    def sizes(self) -> np.ndarray:
        """Original heights and widths in pixels, `N x 2`."""
        return self._files.small["sizes"]

    @property
    def areas(self) -> np.ndarray:
        """Number of pixels of each class at the image's own size, `N x classes`."""
        return self._files.small["areas"]

    @property
    def true_areas(self) -> np.ndarray | None:
        """Number of pixels of each row's true mask, `N`; None if the manifest has no true masks.

        They are counted at the mask's own size; a row without a true mask has -1.
        """
        return self._files.small.get("true_areas")

    @property
    def nearly_uniform(self) -> np.ndarray:
        """Bool `N`, True for 8-bit images of nearly one gray value; see `is_nearly_uniform`."""
        return self._files.small["nearly_one_gray"]

    @property
    def soft_masks(self) -> np.ndarray:
        """Bool `N`, True for masks whose soft edges were cut."""
        return self._files.small["soft_masks"]

    @property
    def thumbnails(self) -> np.ndarray:
        """Gray thumbnails, uint8 `N x 32 x 32`, read again each time."""
        return self._array("thumbnails")

    @property
    def digests(self) -> np.ndarray:
        """Content hashes of the image files, `N`."""
        return self._files.small["digests"]

    @property
    def source_digests(self) -> list[str]:
        """SHA-256 of every file that the cache was built from, in the order of the manifest."""
        return [digest.decode() for digest in self._files.small["source_digests"].tolist()]

    @cached_property
    def planes(self) -> int:
        """Number of planes of each mask: one per class, and one of ignored pixels if there are."""
        return len(self._files.small["truth_ends"]) // max(1, len(self.sizes))

    @property
    def has_ignored(self) -> bool:
        """True if the last plane of the masks is that of pixels that neither train nor score."""
        return self.has_masks and self.planes > self.areas.shape[1]

    @cached_property
    def counted_pixels(self) -> np.ndarray:
        """Pixels of each image that are not ignored, `N`."""
        pixels = np.asarray(self.sizes, np.int64).prod(1)
        return pixels - self._files.small["ignored_areas"] if self.has_ignored else pixels

    def mask(self, row: int, planes: int) -> np.ndarray:
        """Return the first planes of a row's mask on the canvas, 0/1 `height x width x planes`."""
        packed = self._read(
            row, lambda files: files.rows[MASKS].row(row), lambda pixels: pixels.mask
        )
        return (
            packed
            if self.planes == 1
            else np.unpackbits(packed, axis=2, count=planes, bitorder="little")
        )

    def truth(self, row: int, planes: int) -> np.ndarray:
        """Return the first planes of a row's mask at the image's own size, 0/1 `H x W x planes`."""
        height, width = map(int, self.sizes[row])
        counts = self._read(
            row, lambda files: files.truth(row, self.planes), lambda pixels: pixels.truth
        )[:planes]
        return decode_rle(
            [{"size": [height, width], "counts": text} if text else None for text in counts],
            height,
            width,
        )


def _identity(files: _Files) -> str:
    """Return a hash of the pixels and hashes of all rows, which another cache of them has too."""
    digest = hashlib.sha256(files.small[CHECKSUMS].tobytes())
    digest.update(files.small["digests"].tobytes())
    return digest.hexdigest()
