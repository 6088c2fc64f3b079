"""Seconds to index a set as large as BS-80K: 28 folders with label files and 82,544 images.

The images are empty here, because none is opened.

python benchmarks/bone_index.py [--root DIR] (a real set; else a synthetic one is written to a
temporary folder)
"""

import argparse
import tempfile
import time
from pathlib import Path

import parts  # noqa: F401

from datamodules.bone_scan import build_index
from datamodules.manifest.validation import CleaningReport

SIDED, SINGLE = ("ankle", "chest", "elbow", "knee", "sho"), ("head", "pelvis", "vertbra")
# images of a region's and of a whole-body folder: 26 x 2925 + 2 x 3247 = 82,544
REGION, WHOLE = (2925, 3247)


def synthetic(root: Path) -> None:
    regions = [f"{part}{side}{view}" for part in SIDED for side in "LR" for view in ("ANT", "POST")]
    regions += [f"{part}{view}" for part in SINGLE for view in ("ANT", "POST")]
    for name, images in [
        *((region, REGION) for region in regions),
        ("wholeBodyANT", WHOLE),
        ("wholeBodyPOST", WHOLE),
    ]:
        (root / name).mkdir()
        for number in range(1, images + 1):
            (root / name / f"{number}.jpg").touch()
        (root / name / f"{name}.txt").write_text(
            "".join(f"{number}.jpg\t{number % 3 // 2}\n" for number in range(1, images + 1))
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not args.root:
            synthetic(Path(folder))
        for _ in range(args.rounds):
            start = time.perf_counter()
            index = build_index(args.root or Path(folder), "drop", CleaningReport())
            indexed = time.perf_counter()
            index.to_csv(Path(folder) / "index.csv", index=False)
            written = time.perf_counter()
            message = (
                f"{len(index):,} rows of {index['folder'].nunique()} folders indexed in"
                f" {indexed - start:.2f} s"
            )
            print(f"{message}, written as CSV in {written - indexed:.2f} s more")


if __name__ == "__main__":
    main()
