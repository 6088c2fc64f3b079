"""Tests of SIIM-ACR: one data set in three layouts, patients, splits and run lengths."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread

from datamodules.errors import ManifestError
from datamodules.formats.rle import decode_siim, encode_siim, rle_to_siim
from datamodules.phantoms.pneumothorax import draw_images
from datamodules.pneumothorax import PneumothoraxDataModule, read_siim_csv, write_siim_csv
from tests.conftest import THORAX, folder_hash

SIZE = THORAX["size"]


@pytest.fixture
def data(tmp_path):
    """Makes the datamodule of a folder."""
    fixed = {"cache_dir": str(tmp_path / "cache"), "image_size": SIZE}
    return lambda root, split="group", **more: PneumothoraxDataModule(
        root=str(root), split=split, **fixed, **more
    )


@pytest.fixture(scope="module")
def drawn():
    return {
        one.name: one
        for one in draw_images(THORAX["images"], SIZE, THORAX["positive"], True, THORAX["seed"])
    }


def linked(thorax: Path, root: Path) -> Path:
    """A folder with a link to the DICOMs and no table yet."""
    root.mkdir()
    (root / "dicom").symlink_to(thorax / "dicom")
    return root


def name_of(id: str) -> str:
    """The ImageId in an id."""
    return id.rpartition("/")[2]


@pytest.mark.parametrize("layout", ["kaggle", "png", "tree"])
def test_every_layout_gives_the_drawn_images_masks_and_labels_and_is_left_as_it_was(
    layout, layouts, data, drawn
):
    before = folder_hash(layouts[layout])
    made = data(layouts[layout])
    made.prepare_data()
    assert folder_hash(layouts[layout]) == before
    rows = made.table.rows
    assert sorted(map(name_of, rows["id"])) == sorted(drawn) and made.table.classes == (
        "pneumothorax",
    )
    for row, (id, label) in enumerate(zip(rows["id"], rows["label"], strict=True)):
        one, image = drawn[name_of(id)], made.cache.images[row, ..., 0]
        assert np.array_equal(made.cache.truth(row, 1)[..., 0], one.mask) and np.array_equal(
            made.cache.masks[row, ..., 0], one.mask
        )
        assert label == one.mask.any()
        assert (
            np.array_equal(image, one.image)
            if layout != "kaggle"
            else np.abs(image.astype(int) - one.image).mean() < 3
        )  # JPEG


def test_inverted_dicoms_come_out_like_the_others(thorax, data, drawn):
    made = data(thorax)
    inverted = [
        dcmread(path, stop_before_pixels=True).PhotometricInterpretation == "MONOCHROME1"
        for path in made.table.rows["image"]
    ]
    assert any(inverted) and not all(inverted)
    for row in np.flatnonzero(inverted):
        picture = drawn[made.table.rows["id"].iat[row]].image.astype(int)
        assert (
            np.abs(made.cache.images[row, ..., 0] - picture).mean()
            < 3
            < np.abs(255 - picture - picture).mean()
        )


def test_patients_are_groups_and_none_straddles(thorax, data, drawn):
    made = data(thorax, patients=str(thorax / "patients.csv"))
    rows = made.table.rows
    assert made.table.group_is == "patient" and rows["group"].tolist() == [
        drawn[id].patient for id in rows["id"]
    ]
    assert (
        rows["group"].nunique() < len(rows)
        and (rows.groupby("group")["split"].nunique() == 1).all()
    )
    folds = [
        data(
            thorax, patients=str(thorax / "patients.csv"), folds=3, fold=fold, fold_pool="train"
        ).table.rows
        for fold in range(3)
    ]
    assert all((fold.groupby("group")["split"].nunique() == 1).all() for fold in folds)
    assert (
        (np.stack([fold["split"] == "val" for fold in folds]).sum(0) == 1)
        == (rows["split"] == "train")
    ).all()
    alone = data(thorax).table
    assert alone.group_is == "image" and alone.rows["group"].tolist() == alone.rows["id"].tolist()


def test_an_unknown_patient_is_one_of_its_own_and_is_counted(thorax, data, tmp_path):
    table = pd.read_csv(thorax / "patients.csv", dtype=str)
    table.iloc[1:].to_csv(tmp_path / "some.csv", index=False)
    made, unknown = data(thorax, patients=str(tmp_path / "some.csv")), table["image"].iloc[0]
    assert made.table.rows.set_index("id")["group"][unknown] == unknown
    assert made.cleaning["patient unknown: the image is its own group"] == 1


def test_an_image_of_two_patients_is_refused(thorax, data, tmp_path):
    table = pd.read_csv(thorax / "patients.csv", dtype=str)
    pd.concat([table, table.iloc[:1].assign(patient="other")]).to_csv(
        tmp_path / "both.csv", index=False
    )
    with pytest.raises(ManifestError, match=r"gives .* two patients.*keep one row"):
        _ = data(thorax, patients=str(tmp_path / "both.csv")).table


@pytest.mark.parametrize("layout", ["png", "tree"])
def test_the_layout_s_test_is_kept_and_val_is_made_of_train(layout, layouts, data, drawn):
    made = data(layouts[layout], split="folders")
    made.prepare_data()
    rows = made.table.rows
    split, test = (
        rows["outer_split"].to_numpy(),
        np.array([drawn[name_of(id)].test for id in rows["id"]]),
    )
    assert ((split == "test") == test).all()
    assert 0.05 < (split == "val").sum() / (~test).sum() < 0.2


def test_kaggle_s_layout_has_no_split_to_keep(thorax, data):
    assert (
        data(thorax, split="folders").table.rows["split"].tolist()
        == data(thorax).table.rows["split"].tolist()
    )


def test_absolute_run_lengths_are_read_where_they_are_said_to_be(thorax, data, tmp_path, drawn):
    root = linked(thorax, tmp_path / "absolute")
    texts = {
        id: rle_to_siim(decode_siim(own, SIZE, SIZE), relative=False)
        for id, own in read_siim_csv(thorax / "train-rle.csv").items()
    }
    write_siim_csv(root / "train-rle.csv", texts)
    assert {texts[name] for name, one in drawn.items()} == {
        encode_siim(one.mask, relative=False) for one in drawn.values()
    }
    made = data(root, relative=False, rle_size="image")
    for row, id in enumerate(made.table.rows["id"]):
        assert np.array_equal(made.cache.truth(row, 1)[..., 0], drawn[id].mask)
    with pytest.raises(
        ManifestError, match=r"datamodule\.relative=false if the numbers are starts"
    ):
        _ = data(root, rle_size="image").table


def test_overlapping_rows_are_their_union(thorax, data, tmp_path):
    root, made = linked(thorax, tmp_path / "overlapping"), data(thorax)
    id = made.table.rows["id"][made.table.rows["label"] == 0].iloc[0]
    others = [
        line
        for line in (thorax / "train-rle.csv").read_text().splitlines()
        if not line.startswith(f"{id},")
    ]
    (root / "train-rle.csv").write_text(
        "\n".join([*others, f"{id},100 10 20 5", f"{id},105 10", f"{id}, 100 2"])
    )
    again = data(root, rle_size="image")
    row = again.table.rows["id"].tolist().index(id)
    assert again.table.rows["label"].iat[row] == 1 and again.cache.areas[row].tolist() == [15 + 5]
    assert np.flatnonzero(again.cache.truth(row, 1)[..., 0].ravel(order="F")).tolist() == [
        *range(100, 115),
        *range(130, 135),
    ]
    assert (
        again.cleaning["mask in several rows: joined"]
        == made.cleaning["mask in several rows: joined"] + 1
    )


def test_a_list_of_patients_is_not_taken_for_the_annotations(thorax, data, tmp_path):
    root = linked(thorax, tmp_path / "named")
    for name, copy in (("train-rle.csv", "annotations.csv"), ("patients.csv", "who.csv")):
        shutil.copy(thorax / name, root / copy)
    assert (
        data(root, rle_size="image").table.rows["label"].tolist()
        == data(thorax).table.rows["label"].tolist()
    )
