"""Tests of ChestX-Det's classes: all 13 from file to batch, and refused class names."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from datamodules.augmentation import Affine, ElasticTransform, Pipeline
from datamodules.chestx_det import FINDING_CLASSES, ChestXDetDataModule
from datamodules.errors import ManifestError, UserError
from datamodules.image_size import SampleKey
from datamodules.phantoms.chest_findings import FINDING_KINDS
from datamodules.phantoms.chestx_det import write
from tests.unit.datamodules.test_chestx_det import DRAWN, entries

CONF = Path(__file__).parents[3] / "conf"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "chestx_det"
    write(folder, **DRAWN)
    return folder


@pytest.fixture
def data(tmp_path):
    """Makes the datamodule of a folder."""
    return lambda root, classes: ChestXDetDataModule(
        root=str(root), classes=classes, cache_dir=str(tmp_path / "cache"), image_size=DRAWN["size"]
    )


@pytest.fixture
def thirteen(root, tmp_path):
    """Copy findings of class k to classes k + 6 and k + 12 (modulo 13), so that all 13 occur."""
    folder = tmp_path / "thirteen"
    shutil.copytree(root, folder)
    for split in ("train", "test"):
        read = entries(root, split)
        for entry in read:
            kinds = [FINDING_KINDS.index(name) for name in entry["syms"]]
            entry["syms"] = [
                FINDING_CLASSES[(kind + more) % 13] for more in (0, 6, 12) for kind in kinds
            ]
            entry["boxes"], entry["polygons"] = entry["boxes"] * 3, entry["polygons"] * 3
        (folder / f"ChestX_Det_{split}.json").write_text(json.dumps(read))
    return folder


def test_thirteen_classes_are_thirteen_masks_augmented_together(thirteen, data):
    made = data(thirteen, classes=None)
    made.prepare_data()
    assert made.table.classes == FINDING_CLASSES
    made.augmentation = Pipeline(
        {"rotate": Affine(degrees=10, scale=0.1, p=1.0), "elastic": ElasticTransform(p=1.0)}
    )
    plain, train = made.dataset(evaluation=True), made.dataset(evaluation=False)
    row = int(np.argmax((np.asarray(made.cache.areas) > 0).sum(1)))
    truth, sample = plain[SampleKey(row, 0, 0, 64)], train[SampleKey(row, 0, 0, 64)]
    assert (
        truth["mask"].shape == truth["truth"].shape == (13, 64, 64)
        and (truth["mask"] == truth["truth"]).all()
    )
    shown = truth["mask"].flatten(1).any(1)
    assert (
        shown.tolist() == [bool(value) for value in made.table.rows["label"].iat[row]]
        and 6 <= shown.sum()
    )
    assert (sample["mask"].flatten(1).any(1) <= shown).all() and set(
        sample["mask"].unique().tolist()
    ) <= {0, 1}
    assert not (sample["mask"] == truth["mask"]).all()
    for one in range(
        13
    ):  # classes of one outline stay of one outline: every channel is warped alike
        for other in range(13):
            if (truth["mask"][one] == truth["mask"][other]).all():
                assert (sample["mask"][one] == sample["mask"][other]).all()
    halved = train[SampleKey(row, 0, 0, 32)]
    assert halved["mask"].shape == (13, 32, 32)


def test_the_experiment_names_the_classes_as_the_files_do():
    module = yaml.safe_load((CONF / "experiment/upernet_chestx_det.yaml").read_text())["module"]
    demo = yaml.safe_load((CONF / "scale/demo_of/upernet_chestx_det.yaml").read_text())["module"]
    assert module["classes"] == list(FINDING_CLASSES) and module["net"]["classes"] == 13
    assert demo["classes"] == list(FINDING_KINDS) and demo["net"]["classes"] == len(FINDING_KINDS)


@pytest.mark.parametrize(
    ("classes", "wrong"),
    [
        (
            ["Mass", "pleural thickening"],
            (
                r"names 'pleural thickening', which ChestX-Det does not have; write 'Pleural"
                r" Thickening'"
            ),
        ),
        (
            ["Infiltrate"],
            "names 'Infiltrate', which ChestX-Det does not have; choose from Atelectasis, Calc",
        ),
        (["Mass", "Mass"], "names a class twice; name each once"),
        ([], r"classes=\[\] is not allowed; it must be a list of names, or null"),
    ],
)
def test_classes_that_cannot_be_are_refused(classes, wrong, root, data):
    with pytest.raises(UserError, match=wrong):
        data(root, classes=classes)


def test_a_class_that_no_image_shows_is_refused(root, data):
    with pytest.raises(
        ManifestError,
        match=(
            r"has no finding 'Fracture'; set datamodule.classes and module.classes to some of"
            r" 'Cardiomegaly', .*'Pneumothorax'"
        ),
    ):
        _ = data(root, classes=["Mass", "Fracture"]).table
