"""Builder of the image cache: decodes, resizes and checks all images once."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from filelock import FileLock
from rich.progress import track

from datamodules.errors import MAX_IMAGE_PIXELS, ManifestError, UserError
from datamodules.formats.image_cache import ImageCache
from datamodules.formats.image_io import is_nearly_uniform, read_image
from datamodules.formats.rle import decode_rle
from datamodules.image_size import ImageSize, ImageSizeLike
from datamodules.loading.letterbox import Letterbox
from datamodules.manifest.leakage import THUMBNAIL_SIZE, make_thumbnail
from datamodules.manifest.manifest import Manifest, RowMask, get_crop


def load_view(manifest: Manifest, row: int, pixels: np.ndarray) -> np.ndarray:
    """Return a row's view: its image `pixels`, uint8 `H x W x C`, or the square in `crop`.

    Raises:
        ManifestError: The image does not have the size in its row, or the crop does not overlap it.
    """
    rows: Any = manifest.rows
    height, width = pixels.shape[:2]
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
        and crop[2] ** 2 <= MAX_IMAGE_PIXELS
    ):
        raise ManifestError(
            f"the crop {crop} of {rows['image'].iat[row]} lies outside its {height} x {width}"
            " pixels; correct it"
        )
    return crop_square(pixels, crop) if crop else pixels


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


CACHE_VERSION = 6


def build_cache(
    manifest: Manifest, size: ImageSizeLike, channels: int, folder: Path, workers: int | None = None
) -> ImageCache:
    """Open the cache of a manifest at one size, or build it by decoding all images.

    Args:
        manifest: Rows with `image` and, for segmentation, `mask`.
        size: Size of the canvas in pixels: the side of a square, or (height, width).
        channels: 1 or 3.
        folder: Folder of all caches; it is made private to the user (mode 0700).
        workers: Number of decoding threads; None for one per core.

    Raises:
        ManifestError: An image is missing, unreadable, or differs in size from its mask; or a mask
            cannot be used.
        UserError: There is not enough space on the disk.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    size = ImageSize.from_config(size)
    place = folder / f"images-{cache_fingerprint(manifest, size, channels)}"
    if place.is_dir():
        return ImageCache(place)
    with FileLock(f"{place}.lock"):
        if not place.is_dir():  # another process may have built it in the meantime
            unfinished = folder / f"{place.name}.{os.getpid()}.tmp"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=0o700)
            try:
                _fill_cache(manifest, size, channels, unfinished, workers)
                unfinished.rename(place)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return ImageCache(place)


def cache_fingerprint(manifest: Manifest, size: ImageSize, channels: int) -> str:
    """Return a hash of a manifest's files, masks, crops and cache settings, but not of its split.

    A file is identified by its path, size and modification time.
    """
    how_masks_are_read = f"{manifest.mask_reading} {manifest.swap_masks}"
    digest = hashlib.sha256(
        f"{CACHE_VERSION} {size} {channels} {manifest.classes} {how_masks_are_read}".encode()
    )
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
    return digest.hexdigest()[:16]


def _file_stamp(path: str) -> str:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise ManifestError(
            f"{path} does not exist; restore the file or take it out of the data set"
        ) from error
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def _fill_cache(
    manifest: Manifest, size: ImageSize, channels: int, folder: Path, workers: int | None
) -> None:
    n, classes = len(manifest), len(manifest.classes) if "mask" in manifest.rows else 0
    packed = -(
        -classes // 8
    )  # bytes per mask pixel; one byte per class would fill most of the cache
    _check_disk_space(folder, n * size.height * size.width * (channels + packed))

    def create(name: str, dtype: type | str, *shape: int) -> np.ndarray:
        """Create a memory-mapped array `N x shape` in the folder."""
        return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (n, *shape))

    images = create("images", np.uint8, *size, channels)
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
    flat, soft = create("nearly_one_gray", bool), create("soft_masks", bool)
    true_areas = create("true_areas", np.int64) if "true_mask" in manifest.rows else None
    paths = [Path(path) for path in manifest.rows["image"].tolist()]

    def cache_row(row: int) -> list[bytes]:
        """Write one row into the arrays and return the RLE counts of its masks."""
        data = paths[row].read_bytes()
        pixels = load_view(manifest, row, read_image(paths[row], channels, data))
        height, width = pixels.shape[:2]
        rles, soft[row], _ = manifest.mask(row) if classes else RowMask([])
        check_mask_size(manifest, row, [rle["size"] for rle in rles if rle], height, width)
        box = Letterbox(height, width, size)
        images[row] = box.image(pixels)
        if masks is not None and areas is not None:
            truth = decode_rle(rles, height, width)
            masks[row], areas[row] = (
                np.packbits(box.mask(truth), axis=2, bitorder="little"),
                truth.sum((0, 1)),
            )
        sizes[row], thumbnails[row] = (
            (height, width),
            make_thumbnail(pixels[..., 0] if channels == 1 else pixels.mean(2).astype(np.uint8)),
        )
        flat[row] = is_nearly_uniform(pixels)
        if true_areas is not None:
            true_areas[row], edges = _read_true_area(manifest, row)
            soft[row] |= edges
        digests[row] = hashlib.sha256(data).hexdigest()
        return [rle["counts"].encode() if rle else b"" for rle in rles]

    with ThreadPoolExecutor(workers or joblib.cpu_count()) as pool:
        done = track(pool.map(cache_row, range(n)), "decoding images", total=n, transient=True)
        counts = [text for texts in done for text in texts]
    if classes:
        np.save(folder / "truth.npy", np.frombuffer(b"".join(counts), np.uint8))
        np.save(
            folder / "truth_ends.npy", np.cumsum([len(text) for text in counts], dtype=np.int64)
        )
    for array in (images, masks, sizes, thumbnails, digests, areas, flat, soft, true_areas):
        if array is not None:
            array.flush()  # type: ignore[attr-defined]


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
