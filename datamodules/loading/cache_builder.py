"""Builder of the image cache: decodes, resizes and checks all images once."""

import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
from rich.progress import track

from datamodules.errors import ManifestError, UserError
from datamodules.file_errors import FULL_DISK, error_number
from datamodules.formats.file_content import read_bytes
from datamodules.formats.file_stamp import DETACHED_HEADERS, FileStamp, file_stamp, value_files
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
from datamodules.formats.image_cache import (
    CHECKSUMS,
    CONTENTS_FILE,
    IMAGES,
    MASKS,
    TRUTH,
    UNREADABLE_FILE,
    CacheContents,
    CacheFile,
    ImageCache,
    RowPixels,
)
from datamodules.formats.image_files import is_volume
from datamodules.formats.image_io import is_nearly_uniform
from datamodules.formats.kept_result import (
    SUFFIX,
    cache_folder_error,
    load_result,
    make_folder,
    store_result,
    write_result,
)
from datamodules.formats.rle import decode_rle
from datamodules.formats.row_files import DamagedFile, RowWriter, checksum, npy_header, reserve
from datamodules.formats.volumes import decoded_volume, forget_volumes
from datamodules.image_size import ImageSize, ImageSizeLike
from datamodules.loading.cache_folder import (
    build_lock,
    check_space,
    discard,
    no_space,
    sweep,
    unfinished_folder,
)
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


CACHE_VERSION = 10
STAMPS_FILE = f"source_stamps{SUFFIX}"
RESERVED_FILE = "reserved"  # space of what is written at the end of a build
SMALL_BYTES = 200  # of a row in all small arrays but the thumbnails and quantiles
NOT_HASHED = ""  # digest of a file that cannot be read


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

    A cache that is damaged, or whose files were replaced since it was built, is rebuilt.

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
        UserError: There is not enough space on the disk, or the folder cannot be used.
    """
    size = ImageSize.from_config(size)
    return CacheBuild(manifest, size, channels, folder, workers, unreadable).build()


@dataclass(frozen=True)
class CacheBuild:
    """Files and settings that a cache is built from; see `build_cache`."""

    manifest: Manifest
    size: ImageSize
    channels: int
    folder: Path
    workers: int | None = None
    unreadable: str = "refuse"

    @property
    def classes(self) -> int:
        """Number of classes of the masks; 0 without masks."""
        return len(self.manifest.classes) if "mask" in self.manifest.rows else 0

    @property
    def planes(self) -> int:
        """Number of planes of each mask; the last one may be that of ignored pixels."""
        return self.classes + has_ignored_plane(self.manifest) * bool(self.classes)

    def build(self) -> ImageCache:
        """Open the cache, or build it where it is missing, damaged, or of replaced files.

        Raises:
            ManifestError: See `build_cache`.
            UserError: See `build_cache`.
        """
        with self._explained_errors():
            make_folder(self.folder)
            sources = SourceFiles.of(self.manifest)
            place = self.folder / f"images-{cache_fingerprint(self, sources)}"
            sweep(self.folder)
            cache = self._open(place, sources) if place.is_dir() else "missing"
            if isinstance(cache, ImageCache):
                return cache
            with build_lock(place) as locked:
                return self._open_or_fill(place, sources, locked)

    def _open_or_fill(self, place: Path, sources: "SourceFiles", locked: bool) -> ImageCache:
        """Build a cache whose lock is held, unless another process has built it meanwhile."""
        if locked:
            sweep(self.folder, held=place)
        if place.exists() or place.is_symlink():
            cache = self._open(place, sources, hashes=True)
            if isinstance(cache, ImageCache):
                return cache
            print(f"{cache}; it is rebuilt", file=sys.stderr, flush=True)
            discard(place)
        unfinished = unfinished_folder(place)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        try:
            _Filler(self, unfinished, place.name).fill(sources)
            unfinished.rename(place)
        except OSError:
            if locked or not place.is_dir():
                raise
            # without locks, another process has built it at the same time
        finally:
            forget_volumes()
            shutil.rmtree(unfinished, ignore_errors=True)
        return ImageCache(place, self)

    def _open(self, place: Path, sources: "SourceFiles", hashes: bool = False) -> ImageCache | str:
        """Open a cache that can be used; otherwise say why it cannot.

        Args:
            place: Folder of the cache.
            sources: Files of the manifest, as they are now.
            hashes: True to compare the content of files whose stamps have changed.
        """
        try:
            cache = ImageCache(place, self)
        except DamagedFile as damage:
            return f"the cache {place} is damaged ({damage})"
        if cache.unreadable and (self.unreadable == "refuse" or self._can_read(cache.unreadable)):
            return f"the cache {place} lacks images that could not be read"
        changed = sources.changed_since(load_result(place / STAMPS_FILE))
        if changed and not hashes:
            return "the files must be compared, one process at a time"
        if changed:
            replaced = sources.first_replaced(changed, cache.source_digests)
            if replaced:
                return f"the cache {place} is stale ({replaced} was replaced since)"
            store_result(place / STAMPS_FILE, sources.identities)
        return cache

    def _can_read(self, rows: dict[int, str]) -> bool:
        return any(_is_readable(self.manifest, row, self.channels) for row in rows)

    def decode_row(self, row: int) -> "DecodedRow":
        """Decode a row with its masks.

        Raises:
            ManifestError: See `build_cache`.
        """
        manifest, path = self.manifest, Path(str(self.manifest.rows["image"].iat[row]))
        # a volume is read once for all its slices, not here
        data = None if is_volume(path) else read_bytes(path, manifest.reader.max_file_bytes)
        view = load_view(manifest, row, self.channels, data)
        height, width = view.pixels.shape[:2]
        rles, soft, ignored = manifest.mask(row) if self.classes else RowMask([])
        rles = [*rles, ignored][: self.planes]
        check_mask_size(manifest, row, [rle["size"] for rle in rles if rle], height, width)
        box = Letterbox(height, width, self.size)
        mask, areas = None, np.zeros(self.planes, np.int64)
        if self.classes:
            truth = decode_rle(rles, height, width)
            mask = np.ascontiguousarray(np.packbits(box.mask(truth), axis=2, bitorder="little"))
            areas = truth.sum((0, 1), dtype=np.int64)
        true_area = -1
        if "true_mask" in manifest.rows:
            true_area, edges = _read_true_area(manifest, row)
            soft |= edges
        counts = [rle["counts"].encode() if rle else b"" for rle in rles]
        pixels = RowPixels(box.image(view.pixels), mask, counts)
        digest = _content_digest(manifest, row, data)
        return DecodedRow(pixels, view, areas, bool(soft), true_area, digest)

    def decode_pixels(self, row: int) -> RowPixels:
        """Decode a row of a damaged cache.

        Raises:
            ManifestError: See `build_cache`.
        """
        return self.decode_row(row).pixels

    @contextmanager
    def _explained_errors(self) -> Iterator[None]:
        """Convert errors of the cache's disk into one sentence that names paths.cache."""
        try:
            yield
        except OSError as error:
            number, named = error_number(error)
            if named is not None and not Path(named).is_relative_to(self.folder):
                within = self.folder.is_relative_to(named)  # a folder above that cannot be made
                if not within:
                    raise
            if number in FULL_DISK:
                raise no_space(self.folder, self.bytes_needed()) from error
            refusal = cache_folder_error(error, self.folder)
            if refusal is None and isinstance(error, FileNotFoundError):
                refusal = UserError(
                    f"the cache {self.folder} was deleted while it was built; start the same"
                    " command again"
                )
            if refusal is None:
                raise
            raise refusal from error

    def bytes_needed(self) -> int:
        """Return the bytes of the cache, if all images have 8 bits."""
        n, packed = len(self.manifest), -(-self.planes // 8)
        pixels = self.size.height * self.size.width * (self.channels + packed)
        return n * pixels + self.bytes_at_the_end()

    def bytes_at_the_end(self) -> int:
        """Return about how many bytes the small arrays and the RLEs of the masks need."""
        n = len(self.manifest)
        small = n * (THUMBNAIL_SIZE**2 + SMALL_BYTES + 16 * max(1, self.planes))
        masks = self.manifest.rows["mask"] if self.classes else ()
        return small + sum(map(_text_bytes, masks))


@dataclass(frozen=True)
class DecodedRow:
    """A row of the cache before it is written.

    Attributes:
        pixels: What is stored of its pixels.
        view: The image at its own size.
        areas: Number of pixels of each plane of the mask at that size.
        soft: True if soft edges of a mask were cut.
        true_area: Number of pixels of the true mask; -1 without one.
        digest: SHA-256 of the image file.
    """

    pixels: RowPixels
    view: SourceImage
    areas: np.ndarray
    soft: bool
    true_area: int
    digest: str


@dataclass(frozen=True)
class SourceFiles:
    """Every file that the pixels of a manifest come from, with its stamp.

    Attributes:
        stamps: Stamp of each file by its path, in the order of the manifest.
    """

    stamps: dict[str, FileStamp]

    @classmethod
    def of(cls, manifest: Manifest) -> "SourceFiles":
        """Stamp the files of a manifest.

        Raises:
            ManifestError: A file is missing.
        """
        stamps: dict[str, FileStamp] = {}
        for path in manifest.source_files():
            if path not in stamps:
                try:
                    stamps[path] = file_stamp(path)
                    if path.lower().endswith(DETACHED_HEADERS):
                        beside = value_files(Path(path))
                        stamps |= {str(file): file_stamp(file) for file in beside}
                except FileNotFoundError as error:
                    raise ManifestError(
                        f"{path} does not exist; restore the file or take it out of the data set"
                    ) from error
                except OSError as error:
                    raise ManifestError(
                        f"{path} cannot be read ({error.strerror}); restore the file or take it out"
                        " of the data set"
                    ) from error
        return cls(stamps)

    @property
    def identities(self) -> list[list[int]]:
        """The part of each stamp that the name of a cache does not tell: `changed` and `number`."""
        return [[stamp.changed, stamp.number] for stamp in self.stamps.values()]

    def changed_since(self, earlier: Any) -> list[int]:
        """Return the numbers of the files whose identities differ from earlier ones."""
        now = self.identities
        if not isinstance(earlier, list) or len(earlier) != len(now):
            return list(range(len(now)))
        return [number for number, each in enumerate(now) if each != earlier[number]]

    def first_replaced(self, numbers: Sequence[int], digests: Sequence[str]) -> str | None:
        """Return the first of some files whose content is not that of the digests; None if none."""
        paths = list(self.stamps)
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda number: _hash_or_none(paths[number]), numbers))
        pairs = zip(numbers, found, strict=True)
        wrong = (n for n, digest in pairs if digest == NOT_HASHED or digest != digests[n])
        return next((paths[n] for n in wrong), None)

    def hashes(self, known: dict[str, str]) -> list[str]:
        """Return the SHA-256 of each file; those that were computed before are known."""
        with ThreadPoolExecutor() as pool:
            return list(
                pool.map(
                    lambda path: known[path] if path in known else _hash_or_none(path), self.stamps
                )
            )


def _hash_or_none(path: str) -> str:
    """Return the SHA-256 of a file; NOT_HASHED where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return NOT_HASHED


def _text_bytes(mask: Any) -> int:
    """Return about how many bytes the RLEs of a row's mask need."""
    if isinstance(mask, list | tuple):
        return sum(
            len(each.get("counts") or "") if isinstance(each, dict) else _text_bytes(each)
            for each in mask
        )
    try:
        return Path(mask).stat().st_size if isinstance(mask, str) else 0
    except OSError:
        return 0


def cache_fingerprint(build: CacheBuild, sources: SourceFiles) -> str:
    """Return a hash of a manifest's files, masks, crops and cache settings, but not of its split.

    A file is identified by its path, size and modification time; `SourceFiles.identities` tell
    whether another one with the same three is in its place.
    """
    manifest = build.manifest
    reader = manifest.reader
    how_files_are_read = (
        f"{manifest.mask_reading} {manifest.swap_masks} {reader.frame}"
        f" {reader.ignore_dicom_windows}"
    )
    digest = hashlib.sha256(
        f"{CACHE_VERSION} {build.size} {build.channels} {manifest.classes}"
        f" {how_files_are_read}".encode()
    )
    for path, stamp in sources.stamps.items():
        digest.update(f"{path} {stamp.size} {stamp.modified}\n".encode())
    for name in ("image", "mask", "true_mask", "channel_files"):
        if name in manifest.rows:
            for cell in manifest.rows[name]:
                digest.update(f"{name} {json.dumps(cell, default=str)}".encode())
    for row in range(len(manifest)) if "crop" in manifest.rows else ():
        if crop := get_crop(manifest, row):
            digest.update(f"{row} {crop}".encode())
    for name in ("slice", "axis"):
        if name in manifest.rows:
            digest.update(manifest.rows[name].astype(str).to_csv().encode())
    if "height" in manifest.rows:  # they choose between the orientations of an image
        digest.update(manifest.rows[["height", "width"]].to_csv().encode())
    return digest.hexdigest()[:16]


class _Filler:
    """Writer of a new cache.

    Args:
        build: Files and settings.
        folder: Empty folder to write into.
        name: Name that the folder gets at the end.
    """

    def __init__(self, build: CacheBuild, folder: Path, name: str) -> None:
        n, build_size = len(build.manifest), build.size
        check_space(build.folder, build.bytes_needed())
        self._build, self._folder, self._name = build, folder, name
        self._files: dict[str, CacheFile] = {}
        self._images = _ImageWriter(
            build, folder, (n, *build_size, build.channels), build.manifest.has_own_channels
        )
        packed = -(-build.planes // 8)  # a byte per class would fill most of the cache
        self._masks = (
            RowWriter(folder / f"{MASKS}.npy", np.uint8, (n, *build_size, packed))
            if build.classes
            else None
        )
        with (folder / RESERVED_FILE).open("wb") as file:
            reserve(file.fileno(), build.bytes_at_the_end())
        self._small: dict[str, np.ndarray] = {
            "sizes": np.zeros((n, 2), np.int32),
            "thumbnails": np.zeros((n, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8),
            "digests": np.zeros(n, "S64"),
            "nearly_one_gray": np.zeros(n, bool),
            "soft_masks": np.zeros(n, bool),
            "notes": np.zeros(n, np.uint8),
        }
        if build.classes:
            self._small["areas"] = np.zeros((n, build.classes), np.int64)
        if build.planes > build.classes:
            self._small["ignored_areas"] = np.zeros(n, np.int64)
        if "true_mask" in build.manifest.rows:
            self._small["true_areas"] = np.zeros(n, np.int64)
        self._unread: dict[int, str] = {}

    def fill(self, sources: SourceFiles) -> None:
        """Decode all rows and write all files.

        Raises:
            ManifestError: See `build_cache`.
            OSError: The disk is full, or fails.
            UserError: A file was replaced meanwhile.
        """
        n = len(self._build.manifest)
        write = self._write if self._build.unreadable == "refuse" else self._write_if_readable
        with ThreadPoolExecutor(self._build.workers or joblib.cpu_count()) as pool:
            done = track(pool.map(write, range(n)), "decoding images", total=n, transient=True)
            counts = list(done)
        hashes = sources.hashes(self._known_digests())
        self._check_unchanged(sources)
        (self._folder / RESERVED_FILE).unlink()
        self._finish(counts, hashes)
        contents = CacheContents(name=self._name, files=self._files)
        write_result(self._folder / STAMPS_FILE, sources.identities)
        write_result(self._folder / CONTENTS_FILE, contents.model_dump())

    def _known_digests(self) -> dict[str, str]:
        """Return the hashes of image files that were computed when they were decoded.

        A file that cannot be read is NOT_HASHED: it may have gigabytes, and is tried again.
        """
        paths = self._build.manifest.rows["image"].tolist()
        pairs = zip(paths, self._small["digests"].tolist(), strict=True)
        return {path: digest.decode() for path, digest in pairs if not is_volume(Path(path))}

    def _check_unchanged(self, sources: SourceFiles) -> None:
        now = SourceFiles.of(self._build.manifest).stamps
        changed = [path for path, stamp in sources.stamps.items() if now.get(path) != stamp]
        if changed:
            raise UserError(
                f"{changed[0]} was changed while the images were decoded; start the same command"
                " again when the data set is complete"
            )

    def _write(self, row: int) -> list[bytes]:
        """Write one row into the arrays and return the RLE counts of its masks."""
        found, small = self._build.decode_row(row), self._small
        pixels, view = found.pixels, found.view
        self._images.write(row, view, pixels.image)
        if self._masks is not None and pixels.mask is not None:
            self._masks.write(row, pixels.mask)
            small["areas"][row] = found.areas[: self._build.classes]
            if "ignored_areas" in small:
                small["ignored_areas"][row] = found.areas[self._build.classes :].sum()
        shown = view.to_uint8(self._images.own_window(row))
        gray = shown[..., 0] if self._build.channels == 1 else shown.mean(2).astype(np.uint8)
        small["sizes"][row] = view.pixels.shape[:2]
        small["thumbnails"][row] = make_thumbnail(gray)
        small["nearly_one_gray"][row] = not view.levels.deep and is_nearly_uniform(view.pixels)
        small["soft_masks"][row], small["notes"][row] = found.soft, view.notes
        if "true_areas" in small:
            small["true_areas"][row] = found.true_area
        small["digests"][row] = found.digest
        return pixels.truth

    def _write_if_readable(self, row: int) -> list[bytes]:
        """Write one row; if its file cannot be read, note the reason and leave the row black."""
        try:
            return self._write(row)
        except ManifestError as error:
            self._unread[row], self._small["sizes"][row] = str(error), (1, 1)
            return [b""] * self._build.planes

    def _finish(self, counts: list[list[bytes]], hashes: list[str]) -> None:
        """Write what is known at the end."""
        n = len(self._build.manifest)
        checksums = np.zeros((n, 3), np.uint32)
        file, checksums[:, 0], more = self._images.finish()
        self._files[f"{IMAGES}.npy"] = file
        self._small |= more
        checksums[:, 2] = [checksum(b"".join(texts)) for texts in counts]
        if self._masks is not None:
            self._masks.finish()
            self._files[f"{MASKS}.npy"] = row_file(self._masks)
            checksums[:, 1] = self._masks.checksums
            lengths = [len(text) for texts in counts for text in texts]
            self._small["truth_ends"] = np.cumsum(lengths, dtype=np.int64)
            blob = np.frombuffer(b"".join(text for texts in counts for text in texts), np.uint8)
            self._save(f"{TRUTH}.npy", _npy_bytes(blob), len(npy_header(blob.dtype, blob.shape)))
        self._small[CHECKSUMS] = checksums
        self._small["source_digests"] = np.array(hashes, "S64")
        for name, array in self._small.items():
            self._save(f"{name}.npy", _npy_bytes(array))
        if self._unread:
            self._save(UNREADABLE_FILE, json.dumps(self._unread).encode())

    def _save(self, name: str, content: bytes, header: int | None = None) -> None:
        """Write a file and list it; `header` is the number of bytes that its checksum covers."""
        with (self._folder / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._files[name] = CacheFile(
            size=len(content), header=header, checksum=checksum(memoryview(content)[:header])
        )


def row_file(writer: RowWriter) -> CacheFile:
    """Return the entry of a file that has a checksum for each row."""
    return CacheFile(size=writer.size, header=len(writer.header), checksum=checksum(writer.header))


def _npy_bytes(array: np.ndarray) -> bytes:
    return npy_header(array.dtype, array.shape) + array.tobytes()


class _ImageWriter:
    """Writer of `images` and of what tells the meaning of deep images.

    8-bit images are written as uint8. At the first deep image a second array of 16 bits is made,
    which becomes `images` in the end, so that a data set without deep images costs nothing.

    Args:
        build: Files and settings of the cache.
        folder: Folder that is written to.
        shape: `N x height x width x channels`.
        own_channels: True if the channels are images of their own, with a window each.
    """

    def __init__(
        self, build: CacheBuild, folder: Path, shape: tuple[int, ...], own_channels: bool = False
    ) -> None:
        self._folder, self._shape, self._lock = folder, shape, threading.Lock()
        self._all_caches = build.folder
        self._gray = RowWriter(folder / f"{IMAGES}.npy", np.uint8, shape)
        self._deep: RowWriter | None = None
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
            self._gray.write(row, canvas)
            return
        self._summaries[row] = summarize_values(view)
        maps = levels.maps if isinstance(levels, ChannelLevelMaps) else [levels]
        cells = [(each.offset, each.scale, each.deep, each.inverted) for each in maps]
        self._maps[row] = cells if self._windows else cells[0]
        with self._lock:
            if self._deep is None:
                n, values = self._shape[0], int(np.prod(self._shape))
                quantiles = n * N_QUANTILES * 8 * max(1, *self._windows, 1)
                check_space(self._all_caches, 2 * values + quantiles)
                self._deep = RowWriter(self._folder / "deep_images.npy", np.uint16, self._shape)
        self._deep.write(row, canvas)

    def own_window(self, row: int) -> Window | None:
        """Return the window of one deep image alone; None for an 8-bit image."""
        if row not in self._summaries:
            return None
        found = self._summaries[row]
        return common_window(found.quantiles[None], np.array([found.pixels]))

    def finish(self) -> tuple[CacheFile, np.ndarray, dict[str, np.ndarray]]:
        """Write everything to disk.

        Returns:
            Entry of the file, the checksum of each row, and arrays that tell the meaning of deep
            images.
        """
        if self._deep is None:
            self._gray.finish()
            return row_file(self._gray), self._gray.checksums, {}
        deep = self._maps["deep"].reshape(len(self._maps), -1).any(1)
        for row in np.flatnonzero(~deep).tolist():
            self._deep.write(row, self._gray.read(row).astype(np.uint16))
        self._gray.close()
        self._deep.finish()
        (self._folder / "deep_images.npy").replace(self._folder / f"{IMAGES}.npy")
        n = self._shape[0]
        quantiles = np.full((n, *self._windows, N_QUANTILES), np.nan)
        pixels = np.zeros((n, *self._windows), np.int64)
        for row, found in self._summaries.items():
            quantiles[row], pixels[row] = found.quantiles, found.pixels
        small = {"level_maps": self._maps, "value_quantiles": quantiles, "value_pixels": pixels}
        return row_file(self._deep), self._deep.checksums, small


def _content_digest(manifest: Manifest, row: int, data: bytes | None) -> str:
    """Return the hash of a row's file; of a slice, that of its volume's values and its position."""
    if data is not None:
        return hashlib.sha256(data).hexdigest()
    frame = 0 if manifest.reader.frame == "channels" else manifest.reader.frame
    volume = decoded_volume(Path(str(manifest.rows["image"].iat[row])), frame)
    return hashlib.sha256(f"{volume.digest} {manifest.slice_index(row)}".encode()).hexdigest()


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
