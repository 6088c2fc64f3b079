"""Builder of the image cache: decodes, resizes and checks all images once."""

import glob
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
from filelock import FileLock
from rich.progress import track

from datamodules.errors import ManifestError, UserError
from datamodules.formats.file_content import read_bytes
from datamodules.formats.gray_levels import (
    LEVEL_MAP_DTYPE,
    N_QUANTILES,
    ChannelLevelMaps,
    SourceImage,
    ValueSummary,
    Window,
    common_window,
    summarize_values,
)
from datamodules.formats.image_cache import UNREADABLE_FILE, ImageCache
from datamodules.formats.image_files import is_volume
from datamodules.formats.image_io import is_nearly_uniform
from datamodules.formats.rle import decode_rle
from datamodules.formats.volumes import decoded_volume, forget_volumes
from datamodules.image_size import ImageSize, ImageSizeLike
from datamodules.loading.letterbox import Letterbox
from datamodules.manifest.leakage import THUMBNAIL_SIZE, make_thumbnail
from datamodules.manifest.manifest import Manifest, RowMask, get_crop


def load_view(
    manifest: Manifest, row: int, channels: int, data: bytes | None = None
) -> SourceImage:
    """Decode a row's view: its image, or the square in its column `crop`.

    Args:
        manifest: Rows of the data set.
        row: Number of the row.
        channels: Number of channels, see `Manifest.read_image`.
        data: The file's bytes if they were read already.

    Raises:
        ManifestError: The image cannot be read, does not have the size in its row, or the crop does
            not overlap it.
    """
    rows: Any = manifest.rows
    image = manifest.read_image(row, channels, data)
    height, width = image.pixels.shape[:2]
    if "height" in rows:
        _check_same_size(
            rows["image"].iat[row],
            [[rows["height"].iat[row], rows["width"].iat[row]]],
            height,
            width,
        )
    crop = get_crop(manifest, row)
    if crop and not (
        -crop[2] < crop[0] < height
        and -crop[2] < crop[1] < width
        and crop[2] ** 2 <= manifest.reader.max_pixels
    ):
        raise ManifestError(
            f"the crop {crop} of {rows['image'].iat[row]} lies outside its {height} x {width}"
            " pixels; correct it"
        )
    return replace(image, pixels=crop_square(image.pixels, crop)) if crop else image


def crop_square(pixels: np.ndarray, crop: list[int]) -> np.ndarray:
    """Cut the square [top, left, side] out of `H x W x C` pixels; fill with zeros outside them."""
    top, left, side = crop
    square = np.zeros((side, side, pixels.shape[2]), pixels.dtype)
    inside = pixels[max(top, 0) : top + side, max(left, 0) : left + side]
    square[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    return square


def check_mask_size(
    manifest: Manifest, row: int, mask_sizes: list[list[int]], height: int, width: int
) -> None:
    """Refuse a mask whose size differs from that of its image."""
    crop, path = get_crop(manifest, row), str(manifest.rows["image"].iat[row])
    _check_same_size(f"the crop {crop} of {path}" if crop else path, mask_sizes, height, width)


def _check_same_size(what: str, annotated_sizes: list[list[int]], height: int, width: int) -> None:
    for other in annotated_sizes:
        if (int(other[0]), int(other[1])) != (height, width):
            raise ManifestError(
                f"{what} is {height} x {width} pixels, but its annotation says {other[0]} x"
                f" {other[1]}; export image and mask together"
            )


DETACHED_HEADERS = (".mhd", ".nhdr")  # the values of these volumes lie in a second file
CACHE_VERSION = 9


def has_ignored_plane(manifest: Manifest) -> bool:
    """Return True if mask images may hold pixels that neither train nor score."""
    return manifest.mask_reading is not None and manifest.mask_reading.has_ignored


def build_cache(
    manifest: Manifest,
    size: ImageSizeLike,
    channels: int,
    folder: Path,
    workers: int | None = None,
    unreadable: Literal["refuse", "skip"] = "refuse",
) -> ImageCache:
    """Open the cache of a manifest at one size, or build it by decoding all images.

    Args:
        manifest: Rows with `image` and, for segmentation, `mask`.
        size: Size of the canvas in pixels: the side of a square, or (height, width).
        channels: Number of channels, see `Manifest.read_image`.
        folder: Folder of all caches; it is made private to the user (mode 0700).
        workers: Number of decoding threads; None for one per core.
        unreadable: `refuse` a file that cannot be read, or `skip` it: its row is black and is
            listed in `ImageCache.unreadable`. The cache is built again when one of these files can
            be read, because a codec or a permission may have been the reason.

    Raises:
        ManifestError: An image is missing, unreadable, or differs in size from its mask; or a mask
            cannot be used.
        UserError: There is not enough space on the disk.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    size = ImageSize.from_config(size)
    place = folder / f"images-{cache_fingerprint(manifest, size, channels)}"
    if place.is_dir() and _is_current(place, manifest, channels, unreadable):
        return ImageCache(place)
    with FileLock(f"{place}.lock"):
        if place.is_dir() and not _is_current(place, manifest, channels, unreadable):
            shutil.rmtree(place)
        if not place.is_dir():  # another process may have built it in the meantime
            unfinished = folder / f"{place.name}.{os.getpid()}.tmp"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=0o700)
            try:
                _fill_cache(manifest, size, channels, unfinished, workers, unreadable)
                unfinished.rename(place)
            finally:
                forget_volumes()
                shutil.rmtree(unfinished, ignore_errors=True)
    return ImageCache(place)


def cache_fingerprint(manifest: Manifest, size: ImageSize, channels: int) -> str:
    """Return a hash of a manifest's files, masks, crops and cache settings, but not of its split.

    A file is identified by its path, size and modification time.
    """
    reader = manifest.reader
    how_files_are_read = (
        f"{manifest.mask_reading} {manifest.swap_masks} {reader.frame}"
        f" {reader.ignore_dicom_windows}"
    )
    digest = hashlib.sha256(
        f"{CACHE_VERSION} {size} {channels} {manifest.classes} {how_files_are_read}".encode()
    )
    for files in manifest.rows["channel_files"] if "channel_files" in manifest.rows else ():
        digest.update(" ".join(map(_file_stamp, files or ())).encode())
    masks = manifest.rows["mask"] if "mask" in manifest.rows else [None] * len(manifest)
    for image, mask in zip(manifest.rows["image"], masks, strict=True):
        digest.update(_file_stamp(image).encode())
        digest.update(
            (_file_stamp(mask) if isinstance(mask, str) else json.dumps(mask, default=str)).encode()
        )
    for mask in manifest.rows["true_mask"] if "true_mask" in manifest.rows else ():
        digest.update((_file_stamp(mask) if isinstance(mask, str) else "none").encode())
    for row in range(len(manifest)) if "crop" in manifest.rows else ():
        if crop := get_crop(manifest, row):
            digest.update(f"{row} {crop}".encode())
    for name in ("slice", "axis"):
        if name in manifest.rows:
            digest.update(manifest.rows[name].astype(str).to_csv().encode())
    if "height" in manifest.rows:  # they choose between the orientations of an image
        digest.update(manifest.rows[["height", "width"]].to_csv().encode())
    return digest.hexdigest()[:16]


def _file_stamp(path: str) -> str:
    """Return path, size and time of a file; those of the values that lie beside a header too."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise ManifestError(
            f"{path} does not exist; restore the file or take it out of the data set"
        ) from error
    stamp = f"{path} {status.st_size} {status.st_mtime_ns}"
    if Path(path).suffix.lower() in DETACHED_HEADERS:
        for beside in sorted(Path(path).parent.glob(f"{glob.escape(Path(path).stem)}.*")):
            stamp += f" {beside.name} {beside.stat().st_size} {beside.stat().st_mtime_ns}"
    return stamp


def _fill_cache(
    manifest: Manifest,
    size: ImageSize,
    channels: int,
    folder: Path,
    workers: int | None,
    unreadable: str,
) -> None:
    n, classes = len(manifest), len(manifest.classes) if "mask" in manifest.rows else 0
    planes = classes + has_ignored_plane(manifest) * bool(classes)
    packed = -(
        -planes // 8
    )  # bytes per mask pixel; one byte per class would fill most of the cache
    _check_disk_space(folder, n * size.height * size.width * (channels + packed))

    def create(name: str, dtype: type | str, *shape: int) -> np.ndarray:
        """Create a memory-mapped array `N x shape` in the folder."""
        return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (n, *shape))

    images = _ImageArrays(folder, (n, *size, channels), manifest.has_own_channels)
    masks, areas = (
        (create("masks", np.uint8, *size, packed), create("areas", np.int64, classes))
        if classes
        else (None, None)
    )
    sizes, thumbnails, digests = (
        create("sizes", np.int32, 2),
        create("thumbnails", np.uint8, THUMBNAIL_SIZE, THUMBNAIL_SIZE),
        create("digests", "S64"),
    )
    ignored_areas = create("ignored_areas", np.int64) if planes > classes else None
    flat, soft = create("nearly_one_gray", bool), create("soft_masks", bool)
    notes = create("notes", np.uint8)
    unread: dict[int, str] = {}
    true_areas = create("true_areas", np.int64) if "true_mask" in manifest.rows else None
    paths = [Path(path) for path in manifest.rows["image"].tolist()]

    def cache_row(row: int) -> list[bytes]:
        """Write one row into the arrays and return the RLE counts of its masks."""
        # a volume is read once for all its slices, not here
        whole = not is_volume(paths[row])
        data = read_bytes(paths[row], manifest.reader.max_file_bytes) if whole else None
        view = load_view(manifest, row, channels, data)
        pixels = view.pixels
        height, width = pixels.shape[:2]
        rles, soft[row], ignored = manifest.mask(row) if classes else RowMask([])
        rles = [*rles, ignored][:planes]
        check_mask_size(manifest, row, [rle["size"] for rle in rles if rle], height, width)
        box = Letterbox(height, width, size)
        images.write(row, view, box.image(pixels))
        if masks is not None and areas is not None:
            truth = decode_rle(rles, height, width)
            masks[row], areas[row] = (
                np.packbits(box.mask(truth), axis=2, bitorder="little"),
                truth[..., :classes].sum((0, 1)),
            )
            if ignored_areas is not None:
                ignored_areas[row] = truth[..., classes:].sum()
        shown = view.to_uint8(images.own_window(row))
        sizes[row], thumbnails[row] = (
            (height, width),
            make_thumbnail(shown[..., 0] if channels == 1 else shown.mean(2).astype(np.uint8)),
        )
        flat[row] = not view.levels.deep and is_nearly_uniform(pixels)
        notes[row] = view.notes
        if true_areas is not None:
            true_areas[row], edges = _read_true_area(manifest, row)
            soft[row] |= edges
        digests[row] = _content_digest(manifest, row, data)
        return [rle["counts"].encode() if rle else b"" for rle in rles]

    def skip_unreadable(row: int) -> list[bytes]:
        """Write one row; if its file cannot be read, note the reason and leave the row black."""
        try:
            return cache_row(row)
        except ManifestError as error:
            unread[row], sizes[row] = str(error), (1, 1)
            return [b""] * planes

    write_row = cache_row if unreadable == "refuse" else skip_unreadable
    with ThreadPoolExecutor(workers or joblib.cpu_count()) as pool:
        done = track(pool.map(write_row, range(n)), "decoding images", total=n, transient=True)
        counts = [text for texts in done for text in texts]
    if classes:
        np.save(folder / "truth.npy", np.frombuffer(b"".join(counts), np.uint8))
        np.save(
            folder / "truth_ends.npy", np.cumsum([len(text) for text in counts], dtype=np.int64)
        )
    if unread:
        (folder / UNREADABLE_FILE).write_text(json.dumps(unread), encoding="utf-8")
    _flush([masks, sizes, thumbnails, digests, areas, flat, soft, true_areas, notes, ignored_areas])
    images.finish()


def _content_digest(manifest: Manifest, row: int, data: bytes | None) -> str:
    """Return the hash of a row's file; of a slice, that of its volume's values and its position."""
    if data is not None:
        return hashlib.sha256(data).hexdigest()
    frame = 0 if manifest.reader.frame == "channels" else manifest.reader.frame
    volume = decoded_volume(Path(str(manifest.rows["image"].iat[row])), frame)
    return hashlib.sha256(f"{volume.digest} {manifest.slice_index(row)}".encode()).hexdigest()


def _flush(arrays: Sequence[np.ndarray | None]) -> None:
    for array in arrays:
        if array is not None:
            array.flush()  # type: ignore[attr-defined]


class _ImageArrays:
    """Writer of `images` and of what tells the meaning of deep images.

    8-bit images are written as uint8. At the first deep image a second array of 16 bits is made,
    which becomes `images` in the end, so that a data set without deep images costs nothing.

    Args:
        folder: Folder of the cache.
        shape: `N x height x width x channels`.
        own_channels: True if the channels are images of their own, with a window each.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], own_channels: bool = False) -> None:
        self._folder, self._shape, self._lock = folder, shape, threading.Lock()
        self._gray = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
        self._deep: np.memmap | None = None
        self._windows: tuple[int, ...] = (shape[3],) if own_channels else ()
        self._maps = np.zeros((shape[0], *self._windows), LEVEL_MAP_DTYPE)
        self._maps["scale"] = 1
        self._summaries: dict[int, ValueSummary] = {}

    def write(self, row: int, view: SourceImage, canvas: np.ndarray) -> None:
        """Write one row.

        Args:
            row: Number of the row.
            view: The image at its own size.
            canvas: The letterboxed levels of the same image.
        """
        levels = view.levels
        if not levels.deep:
            self._gray[row] = canvas
            return
        self._summaries[row] = summarize_values(view)
        maps = levels.maps if isinstance(levels, ChannelLevelMaps) else [levels]
        cells = [(each.offset, each.scale, each.deep, each.inverted) for each in maps]
        self._maps[row] = cells if self._windows else cells[0]
        with self._lock:
            if self._deep is None:
                _check_disk_space(self._folder, 2 * self._gray.size)
                self._deep = np.lib.format.open_memmap(
                    self._folder / "deep_images.npy", "w+", np.uint16, self._shape
                )
        self._deep[row] = canvas

    def own_window(self, row: int) -> Window | None:
        """Return the window of one deep image alone; None for an 8-bit image."""
        if row not in self._summaries:
            return None
        found = self._summaries[row]
        return common_window(found.quantiles[None], np.array([found.pixels]))

    def finish(self) -> None:
        """Write everything to disk."""
        self._gray.flush()
        if self._deep is None:
            return
        deep = self._maps["deep"].reshape(len(self._maps), -1).any(1)
        for row in np.flatnonzero(~deep).tolist():
            self._deep[row] = self._gray[row]
        self._deep.flush()
        (self._folder / "deep_images.npy").replace(self._folder / "images.npy")
        n = self._shape[0]
        quantiles = np.full((n, *self._windows, N_QUANTILES), np.nan)
        pixels = np.zeros((n, *self._windows), np.int64)
        for row, found in self._summaries.items():
            quantiles[row], pixels[row] = found.quantiles, found.pixels
        np.save(self._folder / "level_maps.npy", self._maps)
        np.save(self._folder / "value_quantiles.npy", quantiles)
        np.save(self._folder / "value_pixels.npy", pixels)


def _is_current(place: Path, manifest: Manifest, channels: int, unreadable: str) -> bool:
    """Return False if a cache lists a file as unreadable that can be read, or must be refused."""
    rows = ImageCache(place).unreadable
    return not rows or (
        unreadable == "skip" and not any(_is_readable(manifest, row, channels) for row in rows)
    )


def _is_readable(manifest: Manifest, row: int, channels: int) -> bool:
    try:
        load_view(manifest, row, channels)
    except ManifestError:
        return False
    return True


def _read_true_area(manifest: Manifest, row: int) -> tuple[int, bool]:
    """Return the number of pixels of a row's true mask (-1 without one), and if its edges are soft.

    Reading the mask here checks it before training.
    """
    path = manifest.rows["true_mask"].iat[row]
    if not isinstance(path, str):
        return -1, False
    true = manifest.read_true_mask(path)
    return int(true.mask.sum()), true.soft


def _check_disk_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed * 1.05 > free:
        raise UserError(
            f"{folder.parent} has {free / 1e9:.1f} GB free, but the image cache needs"
            f" {needed / 1e9:.1f} GB; set paths.cache to a larger disk"
        )
