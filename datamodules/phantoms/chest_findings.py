"""Phantom radiographs with several findings each, as images/*.jpg and manifest.csv."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from datamodules.arguments import Count, Whole, validated
from datamodules.manifest import Manifest
from datamodules.phantoms.chest import draw_patient, draw_radiograph
from datamodules.phantoms.folder import written_once

CLASSES = ("effusion", "enlarged_heart", "nodule", "device")
PREVALENCE = 0.35


@validated
def write(
    root: Path,
    train: Count = 600,
    val: Count = 100,
    test: Count = 150,
    size: Count = 160,
    seed: Whole = 0,
) -> None:
    """Write `images/*.jpg` and `manifest.csv` below `root`, once.

    Findings are sampled independently of each other; a patient has 1 or 2 images, all in one split.

    Args:
        root: The folder to write; left alone when it holds the same phantoms already.
        train: Images in train.
        val: Images in val.
        test: Images in test.
        size: About the side of the pictures in pixels.
        seed: Source of everything random.
    """
    counts = {"train": train, "val": val, "test": test}
    with written_once(root, {**counts, "size": size, "seed": seed, "version": 1}) as folder:
        if folder is not None:
            (folder / "images").mkdir()
            rows = [
                row
                for number, split in enumerate(counts)
                for row in _split(folder, [seed, number], split, counts[split], size)
            ]
            Manifest(pd.DataFrame(rows), CLASSES, "patient").write(folder / "manifest.csv")


def _split(
    root: Path, seed: list[int], split: str, images: int, size: int
) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(seed)
    patient, group, own = draw_patient(random), 0, 0
    for index in range(images):
        if own == 2 or (own == 1 and random.random() < 0.5):
            patient, group, own = draw_patient(random), group + 1, 0
        own += 1
        label = [int(random.random() < PREVALENCE) for _ in CLASSES]
        height, width = (round(side) for side in size * random.uniform(0.85, 1.1, 2))
        pixels = draw_radiograph(
            random,
            height,
            width,
            patient,
            [name for name, there in zip(CLASSES, label, strict=True) if there],
        )
        name = f"{split}{index:05d}"
        cv2.imwrite(
            str(root / "images" / f"{name}.jpg"),
            pixels,
            [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(85, 96))],
        )
        yield {
            "id": name,
            "image": f"images/{name}.jpg",
            "group": f"{split}{group:05d}",
            "label": label,
            "split": split,
        }
