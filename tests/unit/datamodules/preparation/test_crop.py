"""Tests of do=[crop]: squares around the lesions of train alone, and a trainable meta JSON."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datamodules.errors import ManifestError, UserError
from datamodules.preparation.crop import LesionBox, crop_dataset, square_around_box
from datamodules.preparation.export import export_dataset
from tests.conftest import folder_hash
from tests.unit.datamodules.preparation.conftest import N, module


@st.composite
def lesions(draw):
    height, width = draw(st.integers(4, 90)), draw(st.integers(4, 90))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return LesionBox(
        height,
        width,
        0.1,
        (top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left))),
    )


@given(lesions(), st.floats(0, 2))
def test_a_square_holds_the_lesion_and_stays_inside_where_it_fits(lesion, padding):
    top, left, side = square_around_box(lesion, padding)
    row, column, height, width = lesion.box
    assert (
        top <= row
        and left <= column
        and row + height <= top + side
        and column + width <= left + side
    )
    assert side >= min(lesion.height, lesion.width) / 4 and side >= max(height, width) * (
        1 + 2 * padding
    )
    for start, length in ((top, lesion.height), (left, lesion.width)):
        assert 0 <= start <= length - side if side <= length else start == (length - side) // 2


def test_crops_train_and_whole_val_and_test(root, tmp_path):
    before = folder_hash(root)
    folder = crop_dataset(module(root), tmp_path / "out")
    entries = json.loads((folder / "meta.json").read_text())
    assert folder_hash(root) == before
    for n, entry in enumerate(entries):
        assert entry["image_path"] == str(root / "images" / f"{n}.png") and entry["has_pnx"] == int(
            n % 3 > 0
        )
        assert (entry["mask_path"] is None) == (n % 3 == 0) and entry["group"] == f"p{n // 3}"
        if entry["split"] != "train":
            assert entry["crop"] is None and entry["cropped_mask_path"] is None
            continue
        top, left, side = entry["crop"]
        small = np.asarray(Image.open(folder / entry["cropped_mask_path"]))
        assert (
            small.shape == (side, side)
            and (small > 0).sum() == (n % 3 > 0) * (n + 1) * (2 * n + 2)
            and side >= 15
        )
        assert 0 <= left <= 80 - side and 0 <= top <= 60 - side
        if n % 3 and n < 12:
            assert side == np.ceil((2 * n + 2) * 1.5)
    data = module(folder, "meta.json", mask_column="cropped_mask")
    data.prepare_data()
    train = data.table.where("train")
    assert (data.cache.sizes[train] == [[entries[row]["crop"][2]] * 2 for row in train]).all()
    assert (data.cache.sizes[:6] == [60, 80]).all() and len(data.table) == N
    whole = module(folder, "meta.json")
    whole.prepare_data()
    assert (whole.cache.sizes[:] == [60, 80]).all()
    with pytest.raises(ManifestError, match="is cropped already"):
        crop_dataset(module(folder, "meta.json", mask_column="cropped_mask"), tmp_path / "twice")


def test_negatives_are_cropped_like_positives_and_the_seed_says_where(root, tmp_path):
    def made(name, seed):
        return [
            entry["crop"]
            for entry in json.loads(
                (crop_dataset(module(root), tmp_path / name, seed=seed) / "meta.json").read_text()
            )
        ]

    first = made("a", 0)
    positives = {square[2] for n, square in enumerate(first) if square and n % 3}
    assert all(square[2] in positives for n, square in enumerate(first) if square and n % 3 == 0)
    assert made("b", 0) == first != made("c", 1)


def test_masks_that_are_files_are_named_and_not_copied(root, tmp_path):
    exported = export_dataset(module(root), tmp_path / "exported", None)
    before = folder_hash(exported)
    folder = crop_dataset(module(exported, "meta.json"), tmp_path / "out", padding=1.0)
    entries = json.loads((folder / "meta.json").read_text())
    assert entries[7]["mask_path"] == str(exported / "masks" / "a_7.png") and not list(
        (folder / "masks").iterdir()
    )
    assert folder_hash(exported) == before
    data = module(folder, "meta.json", mask_column="cropped_mask")
    data.prepare_data()
    assert (
        entries[17]["crop"][2] > 60
        and entries[17]["crop"][0] < 0
        and data.cache.areas[17] == 18 * 36
    )  # reaches beyond the image


def test_what_cannot_be_is_refused(root, tmp_path):
    with pytest.raises(UserError, match=r"preparation\.padding=-1 is not allowed"):
        crop_dataset(module(root), tmp_path / "out", padding=-1)
    with pytest.raises(UserError, match="where nothing is ever written"):
        crop_dataset(module(root), root / "crops")
    content = json.loads((root / "manifest.json").read_text())
    content["rows"] = [
        row | {"mask": None if row["split"] == "train" else row["mask"]} for row in content["rows"]
    ]
    (root / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ManifestError, match="no train image has a lesion to crop"):
        crop_dataset(module(root), tmp_path / "out")
