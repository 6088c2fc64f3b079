"""Near-duplicate search on real slices: planted copies found, and other pairs called copies.

python benchmarks/leaks.py --root DIR (a COCO export)
"""

import argparse
import tempfile

import cv2
import numpy as np
import pandas as pd
import parts  # noqa: F401

from datamodules.brain_tumor import BrainTumorDataModule
from datamodules.manifest.leakage import find_near_duplicates, make_thumbnail

PLANTED = {
    "encoded again at quality 40": lambda image: cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_GRAYSCALE
    ),
    "mirrored": lambda image: image[:, ::-1],
    "turned by 90 degrees": lambda image: np.rot90(image),
    "half the size": lambda image: cv2.resize(
        image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
    ),
    "darker": lambda image: (image * 0.8).astype(np.uint8),
    "cropped by 3 %": lambda image: image[
        len(image) // 33 : -len(image) // 33, len(image) // 33 : -len(image) // 33
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    root = parser.parse_args().root
    with tempfile.TemporaryDirectory() as cache:
        data = BrainTumorDataModule(root=root, cache_dir=cache, image_size=256)
        rows, thumbnails = data.table.rows, np.asarray(data.cache.thumbnails)
    print(
        f"{len(rows)} real slices, {len(find_near_duplicates(rows, thumbnails))} pairs across the"
        " export's own splits are called near-duplicates"
    )
    for pair in find_near_duplicates(rows, thumbnails)[:12]:
        print(f"  {pair.correlation:.3f} {pair.turned:<22} {pair.first[:30]}  {pair.second[:30]}")
    chosen = np.random.default_rng(0).choice(
        np.flatnonzero(rows["split"] == "train"), 50, replace=False
    )
    for name, change in PLANTED.items():
        copies = [
            make_thumbnail(
                np.ascontiguousarray(
                    change(cv2.imread(rows["image"].iat[row], cv2.IMREAD_GRAYSCALE))
                )
            )
            for row in chosen
        ]
        table = pd.DataFrame(
            {
                "id": [f"t{row}" for row in chosen] + [f"c{row}" for row in chosen],
                "split": ["train"] * 50 + ["val"] * 50,
            }
        )
        found = {
            (pair.first[1:], pair.second[1:])
            for pair in find_near_duplicates(
                table, np.concatenate([thumbnails[chosen], np.stack(copies)])
            )
        }
        hits = sum(a == b for a, b in found)
        print(
            f"{name:<30} {hits}/50 planted copies found, {len(found) - hits} other pairs of 2,450"
            " called copies"
        )


if __name__ == "__main__":
    main()
