"""Tests of ChestX-Det: one mask per class, overlapping findings, image folders and splits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.chestx_det import ChestXDetDataModule
from datamodules.phantoms.chest_findings import FINDING_KINDS
from datamodules.phantoms.chestx_det import FIRST_NUMBER, draw_images, write
from datamodules.sampling.strata import NO_LESION, compute_strata
from tests.conftest import folder_hash

DRAWN = {"train": 50, "test": 20, "size": 64, "contrast": 2.0, "seed": 1}
CONF = Path(__file__).parents[3] / "conf"
BOXES = "box that differs by more than 2 px from its polygon: the polygon is used"
WARTS = {
    BOXES: 2,  # the box that was moved, and that of the polygon that was pulled out of the image
    "exact duplicate finding: counts once": 1,
    "polygon that extends beyond the image: cut off at the border": 1,
    "annotated image that is missing: left out": 1,
    "image without an annotation: left out": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "chestx_det"
    write(folder, **DRAWN)
    return folder


@pytest.fixture
def data(tmp_path):
    """Makes the datamodule of a folder."""
    fixed = {"cache_dir": str(tmp_path / "cache"), "image_size": DRAWN["size"]}
    return lambda root, classes=FINDING_KINDS, **more: ChestXDetDataModule(
        root=str(root), classes=classes, **fixed, **more
    )


def entries(root: Path, split: str) -> list[dict]:
    return json.loads((root / f"ChestX_Det_{split}.json").read_text())


def truth_of(film, place: int) -> np.ndarray:
    """Return the `size x size x classes` mask of the drawn findings.

    In every fifth image the first consolidation, if any, is also outlined as an effusion.
    """
    truth = np.zeros((*film.image.shape, len(FINDING_KINDS)), np.uint8)
    for kind, mask in film.findings:
        truth[..., FINDING_KINDS.index(kind)] |= mask
    patches = [mask for kind, mask in film.findings if kind == "Consolidation"]
    if place % 5 == 0 and patches:
        truth[..., FINDING_KINDS.index("Effusion")] |= patches[0]
    return truth


def test_every_class_s_mask_is_the_union_of_its_drawn_findings_and_the_folder_is_left_as_it_was(
    root, data
):
    before = folder_hash(root)
    made = data(root)
    made.prepare_data()
    assert (
        folder_hash(root) == before
        and made.table.classes == FINDING_KINDS
        and made.table.group_is == "image"
        and len(made.table) == 70
    )
    places = [int(Path(id).stem) - FIRST_NUMBER for id in made.table.rows["id"]]
    differing = overlapping = 0
    for row, (place, film) in enumerate(
        zip(places, draw_images(places, DRAWN["size"], 2.0, 1), strict=True)
    ):
        truth, expected = made.cache.truth(row, len(FINDING_KINDS)), truth_of(film, place)
        differing += not np.array_equal(truth, expected)
        overlapping += bool((truth.sum(2) > 1).any())
        assert made.table.rows["label"].iat[row] == expected.any((0, 1)).astype(int).tolist()
        assert np.array_equal(made.cache.images[row, ..., 0], film.image)
    assert differing == 1 and overlapping > 15  # the one whose polygon was pulled out of the image


def test_what_was_mended_or_left_out_is_counted(root, data):
    made = data(root)
    made.manifest()
    assert {reason: case["count"] for reason, case in made.cleaning.as_dict().items()} == WARTS
    missing = made.cleaning.as_dict()["annotated image that is missing: left out"]["examples"]
    assert missing == [f"train/{FIRST_NUMBER + 70}.png"]


def test_the_set_s_test_is_kept_and_val_is_made_of_train(root, data):
    rows = data(root).table.rows
    assert set(rows["id"][rows["split"] == "test"]) == {
        f"test/{entry['file_name']}" for entry in entries(root, "test")
    }
    assert (
        3 <= (rows["split"] == "val").sum() <= 7 and rows["group"].tolist() == rows["id"].tolist()
    )
    empty = {f"train/{entry['file_name']}" for entry in entries(root, "train") if not entry["syms"]}
    assert set(rows["id"][(rows["stratum"] == NO_LESION) & (rows["split"] != "test")]) == empty - {
        f"train/{FIRST_NUMBER + 70}.png"
    }
    again = data(root, split="group").table.rows
    assert (again["split"] == "test").sum() == 7 and (again["split"] != rows["split"]).any()


PLACES = [
    ("train_data/train", "test_data/test"),
    ("train", "test"),
    ("train_data", "test"),
    ("images/train", "images/test"),
    ("images/train_data", "images/test_data"),
    ("images", "images"),
    (".", "."),
]


@pytest.mark.parametrize("places", PLACES)
def test_the_images_are_found_wherever_they_were_unpacked(places, root, data, tmp_path):
    moved = tmp_path / "moved"
    for split, place in zip(("train", "test"), places, strict=True):
        shutil.copytree(root / f"{split}_data", moved / place, dirs_exist_ok=True)
        shutil.copy(root / f"ChestX_Det_{split}.json", moved)
    made = data(moved)
    made.prepare_data()
    expected = data(root)
    assert made.table.rows["id"].tolist() == expected.table.rows["id"].tolist()
    assert (
        np.array_equal(made.cache.areas, expected.cache.areas)
        and made.cleaning["image without an annotation: left out"] == 1
    )


def test_a_subset_of_classes_in_its_own_order(root, data):
    whole, some = data(root), data(root, classes=["Mass", "Effusion"])
    assert some.table.classes == ("Mass", "Effusion")
    assert np.array_equal(
        some.cache.areas,
        np.asarray(whole.cache.areas)[
            :, [FINDING_KINDS.index("Mass"), FINDING_KINDS.index("Effusion")]
        ],
    )
    shown = np.asarray(some.cache.areas) > 0
    assert ((some.table.rows["stratum"] == NO_LESION) == ~shown.any(1)).all() and np.array_equal(
        compute_strata(some.table, some.cache), some.table.rows["stratum"]
    )


def test_strata_go_by_an_image_s_rarest_class(root, data):
    rows = data(root).table.rows
    findings = {
        f"{split}/{e['file_name']}": e["syms"]
        for split in ("train", "test")
        for e in entries(root, split)
    }
    often = {name: sum(syms.count(name) for syms in findings.values()) for name in FINDING_KINDS}
    for id, stratum in zip(rows["id"], rows["stratum"], strict=True):
        assert stratum == (min(findings[id], key=often.get) if findings[id] else NO_LESION)
