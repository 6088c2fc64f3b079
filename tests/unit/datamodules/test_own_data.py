"""Tests that one data set, written in every layout, is read as it was drawn."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.own_data import OwnDataModule
from tests.factories.layouts import JOINED, LAYOUTS, NAMED, SPLIT, draw

NAMES = ["edema", "lesion"]


def own(root: Path, **more) -> OwnDataModule:
    words = {"image_size": 64, "cache_size": 64, "num_workers": 0} | more
    return OwnDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **words)


def expected(item, joined: bool) -> np.ndarray:
    if joined:
        return (item.labels > 0).astype(np.uint8)[..., None]
    return np.stack([item.labels == k for k in (1, 2)], axis=-1).astype(np.uint8)


def find_row(data: OwnDataModule, name: str) -> int:
    found = [n for n, id in enumerate(data.table.rows["id"]) if name in Path(id).name]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_are_those_that_were_drawn(name, tmp_path):
    write, layout = LAYOUTS[name]
    root = tmp_path / "data"
    root.mkdir()
    items = draw(size=(64, 64))
    write(root, items, NAMES)
    data = own(root, unannotated="negative")
    assert data.match.layout.name == layout
    data.prepare_data()
    assert len(data.table) == len(items)
    if name not in JOINED:
        assert len(data.table.classes) == 2
        if name in NAMED:
            assert sorted(data.table.classes) == NAMES
    for item in items:
        row = find_row(data, item.name if name != "pairs" else f"{item.name}")
        truth = expected(item, name in JOINED)
        order = [NAMES.index(c) for c in data.table.classes] if name in NAMED else None
        truth = truth if order is None else truth[..., order]
        classes = truth.shape[2]
        assert np.array_equal(data.cache.truth(row, classes), truth), item.name
        assert np.array_equal(data.cache.mask(row, classes), truth), item.name
        assert np.array_equal(data.cache.images[row][..., 0], item.image)
        if name in SPLIT:
            assert data.table.rows["split"].iat[row] == item.split
