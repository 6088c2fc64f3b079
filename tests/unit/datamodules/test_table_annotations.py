"""Tests of a manifest's `mask` column.

Run lengths that do not fill their image and cells that are no masks are refused with file, row and
class.
"""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datamodules.errors import ManifestError
from datamodules.formats.rle import encode_rle
from datamodules.preparation.crop import crop_dataset
from datamodules.preparation.export import export_dataset
from datamodules.preparation.inspect import check_dataset
from datamodules.table import TableDataModule
from tests.unit.datamodules.formats.test_rle_checks import SHORT, SIZE

SPLITS = ["train"] * 4 + ["val"] * 2 + ["test"] * 2


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for n in range(len(SPLITS)):
        Image.fromarray(np.random.default_rng(n).integers(0, 256, SIZE).astype(np.uint8)).save(
            root / f"{n}.png"
        )
    return root


def good(n):
    mask = np.zeros((*SIZE, 1), np.uint8)
    mask[10:20, 10 : 15 + n] = 1
    return encode_rle(mask)


def write(root, suffix, cell):
    """A manifest whose second row, of train, holds a cell as its mask."""
    rows = [
        {"id": f"i{n}", "image": f"{n}.png", "mask": cell if n == 1 else good(n), "split": split}
        for n, split in enumerate(SPLITS)
    ]
    if suffix == "json":
        (root / "manifest.json").write_text(json.dumps({"classes": ["lesion"], "rows": rows}))
    else:
        for row in rows:
            row["mask"] = (
                row["mask"]
                if row["mask"] is None or isinstance(row["mask"], str)
                else json.dumps(row["mask"])
            )
        pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)


def module(root, suffix):
    words = {"cache_dir": str(root.parent / "cache"), "image_size": 96, "num_workers": 0}
    return TableDataModule(root=str(root), manifest_name=f"manifest.{suffix}", **words)


BAD_RLE = {
    "short list": [{"size": SIZE, "counts": [10, 20]}],
    "short string": [{"size": SIZE, "counts": SHORT}],
    "no runs": [{"size": SIZE, "counts": []}],
    "float": [{"size": SIZE, "counts": [10.5, 9205.5]}],
    "negative": [{"size": SIZE, "counts": [-3, 9219]}],
    "no counts": [{"size": SIZE}],
    "no size": [{"counts": [9216]}],
    "gigantic": [{"size": [10**9, 10**9], "counts": [10**18]}],
    "a number as RLE": [5],
    "a text as RLE": ["05"],
    "nested": [[{"size": SIZE, "counts": [9216]}]],
}
BAD_CELL = {
    "one RLE without its list": {"size": SIZE, "counts": [10, 20, 9186]},
    "two of one class": [*good(1), *good(1)],
    "no class": [],
}
ONLY_JSON = {"number": 5, "half": 0.5, "bool": True}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        *((name, suffix) for name in [*BAD_RLE, *BAD_CELL] for suffix in ("csv", "json")),
        *((name, "json") for name in ONLY_JSON),  # texts of a CSV are names of files
    ],
)
def test_it_is_refused_by_training_and_by_validation(name, suffix, root, tmp_path):
    write(root, suffix, (BAD_RLE | BAD_CELL | ONLY_JSON)[name])
    what = (
        ", class lesion, cannot be used: "
        if name in BAD_RLE
        else " is .*; write the path of an image, or a list with"
    )
    said, out = rf"{root}/manifest\.{suffix}: the mask of 'i1'{what}", tmp_path / "out"
    for check in (
        lambda data: data.prepare_data(),
        check_dataset,
        lambda data: export_dataset(data, out, None),
        lambda data: crop_dataset(data, out),
    ):
        with pytest.raises(ManifestError, match=said) as refusal:
            check(module(root, suffix))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("suffix", ["csv", "json"])
@pytest.mark.parametrize("cell", [None, [None], [""], [float("nan")]])
def test_nothing_is_no_mask(cell, suffix, root):
    write(root, suffix, cell)
    data = module(root, suffix)
    data.prepare_data()
    assert data.cache.areas[:, 0].tolist() == [(5 + n) * 10 * (n != 1) for n in range(len(SPLITS))]


def test_the_class_is_named(root):
    masks = [[*good(n), {"size": SIZE, "counts": [9]} if n == 3 else None] for n in range(8)]
    rows = [
        {"id": f"i{n}", "image": f"{n}.png", "mask": masks[n], "split": SPLITS[n]} for n in range(8)
    ]
    (root / "manifest.json").write_text(json.dumps({"classes": ["a", "b"], "rows": rows}))
    with pytest.raises(
        ManifestError,
        match="the mask of 'i3', class b, cannot be used: the runs of the RLE add up to 9 pixels",
    ):
        module(root, "json").prepare_data()
