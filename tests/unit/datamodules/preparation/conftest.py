"""A small data set with lesions and its datamodule, for the preparation tests."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datamodules.formats.rle import encode_rle
from datamodules.manifest.manifest import Manifest
from datamodules.table import TableDataModule

N = 18


def module(root, name="manifest.json", **more):
    words = {"image_size": 64, "augmentation": None, "num_workers": 0} | more
    return TableDataModule(
        root=str(root), cache_dir=str(root.parent / "cache"), manifest_name=name, **words
    )


@pytest.fixture
def root(tmp_path):
    """18 images of 60 x 80 pixels, two thirds with a growing lesion; masks as RLE."""
    root, rows = tmp_path / "data", []
    (root / "images").mkdir(parents=True)
    for n in range(N):
        image, mask = (
            np.random.default_rng(n).integers(0, 90, (60, 80), np.uint8),
            np.zeros((60, 80, 1), np.uint8),
        )
        if n % 3:
            mask[10 : 11 + n, 20 : 22 + 2 * n] = 1
        image[mask[..., 0] > 0] = 200
        Image.fromarray(image).save(root / "images" / f"{n}.png")
        split = "val" if n < 3 else "test" if n < 6 else "train"
        rows.append(
            {
                "id": f"a/{n}",
                "image": f"images/{n}.png",
                "mask": encode_rle(mask) if n % 3 else None,
                "group": f"p{n // 3}",
                "split": split,
            }
        )
    table = pd.DataFrame(rows).assign(cls_prob=np.linspace(0, 1, N).round(3))
    table.loc[4, "cls_prob"] = None
    Manifest(table, ("pneumothorax",), "patient").write(root / "manifest.json")
    return root
