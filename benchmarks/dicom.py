"""JPEG DICOMs into the cache: images per second of `decoding.build` and of a plain loop.

The plain loop uses pydicom and Pillow on one thread.

python benchmarks/dicom.py [number of images]
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pandas as pd
import parts  # noqa: F401
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from datamodules.loading.cache_builder import build_cache
from datamodules.manifest.manifest import Manifest

SIDE, SIZE, REPEATS = 1024, 512, 5


def write(path: Path, random: np.random.Generator) -> None:
    """Write a DICOM with a radiograph's share of fine noise, about 130 kB as in SIIM-ACR."""
    broad = cv2.resize(
        random.integers(40, 216, (8, 8), np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )
    picture = cv2.add(
        broad,
        cv2.GaussianBlur(random.normal(0, 12, (SIDE, SIDE)).astype(np.float32), (0, 0), 1.2),
        dtype=cv2.CV_8U,
    )
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (
        SIDE,
        SIDE,
        1,
        "MONOCHROME2",
    )
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        8,
        8,
        7,
        0,
    )
    dataset.PixelData = encapsulate(
        [cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()]
    )
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)


def plain(paths: list[Path]) -> np.ndarray:
    """Decode with the loop that most published code has."""
    return np.stack(
        [
            np.asarray(Image.fromarray(pydicom.dcmread(path).pixel_array).resize((SIZE, SIZE)))
            for path in paths
        ]
    )


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i}.dcm" for i in range(number)]
        for path in paths:
            write(path, random)
        manifest = Manifest(
            pd.DataFrame({"id": [path.stem for path in paths], "image": list(map(str, paths))})
        )
        print(
            f"{number} DICOMs of {SIDE} px,"
            f" {sum(path.stat().st_size for path in paths) / number / 1e3:.0f} kB each, to"
            f" {SIZE} px"
        )
        theirs, build_one = (
            plain(paths[:4]),
            build_cache(manifest, SIZE, 1, folder / "warm"),
        )  # imports and page cache
        difference = np.abs(theirs.astype(int) - build_one.images[:4, ..., 0]).mean()
        print(f"the two pictures differ by {difference:.2f} gray levels on average")
        rates: list[tuple[float, float]] = []
        for repeat in range(REPEATS):
            start = time.perf_counter()
            plain(paths)
            middle = time.perf_counter()
            build_cache(manifest, SIZE, 1, folder / f"cache{repeat}")
            rates.append((number / (middle - start), number / (time.perf_counter() - middle)))
            print(
                f"plain loop {rates[-1][0]:6.0f} images/s   build {rates[-1][1]:6.0f} images/s  "
                f" ratio {rates[-1][1] / rates[-1][0]:.2f}"
            )
        print(f"median ratio {median(ours / other for other, ours in rates):.2f}")


if __name__ == "__main__":
    main()
