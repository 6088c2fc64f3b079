"""Image cache: cost of both runs, growth of memory with the images, and cost of the checks.

python benchmarks/cache.py            # all
python benchmarks/cache.py checks     # the time that checksums take, of an epoch and at the start
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from parts import Parts

from datamodules.formats import row_files
from datamodules.formats.gray_levels import SourceImage
from datamodules.formats.image_cache import ImageCache
from datamodules.formats.image_io import ImageReader
from datamodules.formats.rle import encode_rle
from datamodules.image_size import ImageSize, SampleKey
from datamodules.loading.cache_builder import CacheBuild, build_cache
from datamodules.loading.dataset import ManifestDataset
from datamodules.manifest.manifest import Manifest

IMAGES_OF_SPLIT = {"train": 32, "valid": 8, "test": 22}


def private_mb() -> float:
    """Return the memory of this process in MB, without the cache's mapped pages."""
    status = Path("/proc/self/status").read_text()
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
        / 1e3
    )


def write_images(folder: str, number: int) -> Manifest:
    """Write JPEGs of 640 pixels that differ from each other, with one mask."""
    random = np.random.default_rng(0)
    base = cv2.GaussianBlur(random.integers(0, 255, (640, 640), np.uint8), (0, 0), 3)
    mask = np.zeros((640, 640, 1), np.uint8)
    mask[200:320, 150:290] = 1
    rle, rows = encode_rle(mask), []
    for i in range(number):
        path = Path(folder) / f"{i}.jpg"
        cv2.imwrite(str(path), np.roll(base, i, axis=1))
        rows.append({"id": str(i), "image": str(path), "mask": rle})
    return Manifest(pd.DataFrame(rows))


def both_runs() -> None:
    decoded = 0
    own = ImageReader.read

    def counting(*arguments: object) -> SourceImage:
        nonlocal decoded
        decoded += 1
        return own(*arguments)  # type: ignore[arg-type]

    ImageReader.read = counting  # type: ignore[assignment,method-assign]
    for number in (500, 1000, 2000):
        with tempfile.TemporaryDirectory() as folder:
            manifest = write_images(folder, number)
            times, counts = [], []
            for _ in range(2):
                decoded, start = 0, time.perf_counter()
                cache = build_cache(manifest, 256, 1, Path(folder) / "cache")
                times.append(time.perf_counter() - start)
                counts.append(decoded)
            dataset = ManifestDataset(cache, manifest, 0, evaluation_size="native")
            before = private_mb()
            for i in range(number):
                _ = dataset[SampleKey(i, 0, 0, 256)]
            print(
                f"{number:>5} images of 640 px: first run {times[0]:.2f} s, {counts[0]} decoded;"
                f" second {times[1]:.3f} s, {counts[1]} decoded; private memory grew by"
                f" {private_mb() - before:.1f} MB while all were read (cache"
                f" {256 * 256 * 2 * number / 1e6:.0f} MB)"
            )


def opening(images: int = 2000, size: int = 640, times: int = 7) -> None:
    """Print the time to open a cache of this size, files compared, and that of 10 GB."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, cache = write_images(folder, images), Path(folder) / "cache"
        place = build_cache(manifest, size, 1, cache).folder
        total = sum(path.stat().st_size for path in place.iterdir())
        measured: dict[str, list[float]] = {"all": [], "cold": [], "files": []}
        for _ in range(times):
            for name in measured:
                if name == "cold":
                    drop_from_memory([*place.iterdir()])
                start = time.perf_counter()
                if name == "files":
                    ImageCache(place, CacheBuild(manifest, ImageSize(size, size), 1, cache))
                else:
                    build_cache(manifest, size, 1, cache)
                measured[name].append(time.perf_counter() - start)
    found = {name: np.median(each) for name, each in measured.items()}
    print(
        f"opening {images} images of {size} px, {total / 1e9:.2f} GB, median of {times}:"
        f" {found['all'] * 1e3:.0f} ms with the stamps of all images ({found['cold'] * 1e3:.0f} ms"
        f" where the cache is not in memory), of which its own files {found['files'] * 1e3:.0f} ms;"
        f" extrapolated to 10 GB ({images * 1e10 / total:,.0f} images):"
        f" {found['all'] * 1e10 / total:.2f} s, {found['cold'] * 1e10 / total:.2f} s and"
        f" {found['files'] * 1e10 / total:.2f} s"
    )


def drop_from_memory(files: list[Path]) -> None:
    """Write files to the disk and take them out of the page cache."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def epochs(pairs: int = 5, size: int = 256) -> None:
    """Print the cost of the checks in a first epoch, in which every image is compared."""
    seconds = 0.0
    own = row_files.checksum

    def timed(data: Any, start: int = 0) -> int:
        nonlocal seconds
        began = time.perf_counter()
        found = own(data, start)
        seconds += time.perf_counter() - began
        return found

    words = ["experiment=unetpp_brain_tumor", "scale=demo", f"image_size={size}"]
    words += ["module/scheduler=one_cycle", "callbacks=[nonfinite_loss]", "trainer.max_epochs=1"]
    words += [f"datamodule.phantom.{split}={n}" for split, n in IMAGES_OF_SPLIT.items()]
    ratios, shares, lengths = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        each = Parts(folder, *words, f"paths.cache={folder}/cache")
        for pair in range(pairs + 1):
            taken = {}
            for checks in (True, False) if pair % 2 else (False, True):
                each.data = each.make(each.cfg.datamodule)
                each.data.prepare_data()
                for reader in (each.data.cache.images, each.data.cache.masks):
                    reader._compared[:] = not checks
                each.data.cache._files._truth_compared[:] = not checks
                trainer, _ = each.trainer(limit_val_batches=0)
                row_files.checksum, seconds = timed, 0.0
                start = time.process_time()  # of this process alone, on a busy machine too
                trainer.fit(each.module, datamodule=each.data)
                taken[checks] = time.process_time() - start
                row_files.checksum = own
                if checks and pair:
                    shares.append(seconds / taken[True])
            if pair:  # the first one is slower in many ways
                ratios.append(taken[True] / taken[False])
                lengths.append(taken[False])
    images = len(each.data.pool.rows)
    print(
        f"first epoch of {images} images of {size} px ({np.median(lengths):.1f} s of CPU time),"
        f" {pairs} pairs:"
        f" with checks {np.median(ratios):.4f} x the time without (from {min(ratios):.3f} to"
        f" {max(ratios):.3f}); checksums took {np.median(shares):.3%} of its time; later epochs"
        " compare nothing again"
    )


def samples(pairs: int = 15, images: int = 200, size: int = 640) -> None:
    """Print the cost of the checks for a loader alone, without a network."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_images(folder, images)
        cache = build_cache(manifest, size, 1, Path(folder) / "cache")
        dataset = ManifestDataset(cache, manifest, 0)
        ratios, lengths = [], []
        for pair in range(pairs + 1):
            taken = {}
            for checks in (True, False) if pair % 2 else (False, True):
                for reader in (cache.images, cache.masks):
                    reader._compared[:] = not checks
                start = time.perf_counter()
                for row in range(images):
                    _ = dataset[SampleKey(row, 0, 0, size)]
                taken[checks] = time.perf_counter() - start
            if pair:
                ratios.append(taken[True] / taken[False])
                lengths.append((taken[True] - taken[False]) / images)
        print(
            f"loading an image of {size} px with its mask, without augmentation, {pairs} pairs:"
            f" {np.median(ratios):.2f} x the time where it is compared,"
            f" {np.median(lengths) * 1e3:.2f} ms more, once per process"
        )


if __name__ == "__main__":
    if sys.argv[1:] != ["checks"]:
        both_runs()
    opening()
    samples()
    epochs()
