"""Image cache: cost of the first and the second run, and growth of memory with the images.

python benchmarks/cache.py
"""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import parts  # noqa: F401

from datamodules.formats.gray_levels import SourceImage
from datamodules.formats.image_io import ImageReader
from datamodules.formats.rle import encode_rle
from datamodules.image_size import SampleKey
from datamodules.loading.cache_builder import build_cache
from datamodules.loading.dataset import ManifestDataset
from datamodules.manifest.manifest import Manifest


def private_mb() -> float:
    """Return the memory of this process in MB, without the cache's mapped pages."""
    status = Path("/proc/self/status").read_text()
    return (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
        / 1e3
    )


def main() -> None:
    random = np.random.default_rng(0)
    base = cv2.GaussianBlur(random.integers(0, 255, (640, 640), np.uint8), (0, 0), 3)
    mask = np.zeros((640, 640, 1), np.uint8)
    mask[200:320, 150:290] = 1
    rle = encode_rle(mask)
    decoded = 0
    own = ImageReader.read

    def counting(*arguments: object) -> SourceImage:
        nonlocal decoded
        decoded += 1
        return own(*arguments)  # type: ignore[arg-type]

    ImageReader.read = counting  # type: ignore[assignment,method-assign]
    for number in (500, 1000, 2000):
        with tempfile.TemporaryDirectory() as folder:
            rows = []
            for i in range(number):
                path = Path(folder) / f"{i}.jpg"
                cv2.imwrite(str(path), np.roll(base, i, axis=1))
                rows.append({"id": str(i), "image": str(path), "mask": rle})
            manifest = Manifest(pd.DataFrame(rows))
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


if __name__ == "__main__":
    main()
