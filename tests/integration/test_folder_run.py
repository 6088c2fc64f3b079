"""Tests of do=[predict] on any folder of images, by mask and by label networks."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datamodules.formats.image_io import read_image
from tests.conftest import folder_hash, refused
from tests.factories.finished_run import finish_run
from tests.integration.test_pneumothorax_run import WORDS, drawn, logits_by_hand, masks_of, rule_of
from tests.integration.test_preclassify_run import LABELS


@pytest.fixture(scope="module")
def masks(thorax, tmp_path_factory):
    """A run that learned masks at 96 pixels, though image_size=32."""
    words = [*WORDS, "do=[fit]", f"datamodule.root={thorax}"]
    return finish_run(words, tmp_path_factory.mktemp("masks") / "run")


@pytest.fixture(scope="module")
def labels(thorax, tmp_path_factory):
    """A run of two folds that learned labels."""
    words = [*LABELS, f"datamodule.root={thorax}"]
    return finish_run(words, tmp_path_factory.mktemp("labels") / "run")


@pytest.fixture(scope="module")
def folder(thorax, tmp_path_factory):
    """A png, a jpg in a subfolder and a DICOM in another, of three shapes, beside a text."""
    root = tmp_path_factory.mktemp("folder")
    films = sorted(thorax.rglob("*.dcm"))
    for name, film, size in (
        ("wide.png", films[0], (90, 50)),
        ("a b/high.jpg", films[1], (40, 100)),
    ):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(cv2.resize(read_image(film, 1)[..., 0], size)).save(root / name)
    (root / "c").mkdir()
    shutil.copy(films[2], root / "c" / "film.dcm")
    (root / "notes.txt").write_text("not an image")
    return root


def on(folder: Path, checkpoint: Path, *words: str) -> list[str]:
    return [
        "datamodule=folder",
        f"datamodule.root={folder}",
        "do=[predict]",
        f"ckpt_path={checkpoint}",
        *words,
    ]


def test_masks_of_a_folder_are_those_of_the_network_at_the_size_it_was_trained_on(
    masks, folder, cli, tmp_path
):
    before = folder_hash(folder)
    words = [
        word
        for word in WORDS
        if not word.startswith(
            ("datamodule.cache_size", "datamodule.cls_prob", "datamodule/sampling")
        )
    ]
    code, said = cli(
        *words,
        *on(folder, masks),
        "datamodule/sampling=hard",
        "datamodule.cls_prob=latest:preclassify_pnx",
    )
    assert code == 0 and folder_hash(folder) == before, said
    found, files = (
        masks_of(tmp_path / "run"),
        {Path(name).stem: folder / name for name in ("wide.png", "a b/high.jpg", "c/film.dcm")},
    )
    by_hand = logits_by_hand([masks / "checkpoints/best.ckpt"], files)
    assert {id: mask.shape for id, mask in found.items()} == {
        "wide": (50, 90),
        "high": (100, 40),
        "film": (64, 64),
    }
    rule = rule_of(masks / "checkpoints/best.ckpt")
    assert all(np.array_equal(mask > 0, drawn(by_hand[id], rule)) for id, mask in found.items())

    code, said = cli(*words, *on(folder, masks), "tta=hflip", folder=tmp_path / "mirrored")
    assert code == 0 and "the run's own rule is used" in said
    mirrored = logits_by_hand([masks / "checkpoints/best.ckpt"], files, flip=True)
    assert (
        np.mean(
            [
                np.mean((mask > 0) != drawn(mirrored[id], rule))
                for id, mask in masks_of(tmp_path / "mirrored").items()
            ]
        )
        < 1e-3
    )


@pytest.mark.slow
def test_labels_of_a_folder(labels, folder, cli, tmp_path):
    code, said = cli(*LABELS, *on(folder, labels / "fold0"))
    assert code == 0, said
    table = pd.read_csv(tmp_path / "run/predictions/predictions.csv").set_index("id")
    assert sorted(table.index) == ["film", "high", "wide"]
    assert list(table) == ["file", "label", "positive", "probability", "seconds"]
    threshold = json.loads((labels / "fold0/report.json").read_text())["rule"]["pneumothorax"][
        "threshold"
    ]
    assert ((table["probability"] >= threshold) == table["positive"]).all()
    code, said = cli(*LABELS, *on(folder, labels))
    assert code == 0, said
    both = pd.read_csv(tmp_path / "run/predictions/predictions.csv").set_index(
        "id"
    )  # of both folds' networks, at a rule of their own
    assert (
        sorted(both.index) == sorted(table.index)
        and (both["probability"] - table["probability"]).abs().max() > 0
    )


@pytest.mark.parametrize("do", ["fit", "test", "fit,test"])
def test_a_folder_gives_nothing_to_learn_or_judge_by(do, masks, folder, cli, steps):
    code, said = cli(*WORDS, *on(folder, masks), f"do=[{do}]")
    refused(code, said, steps, "no ground truth for training or evaluation", "do=[predict]")


def test_a_folder_without_images_is_refused(masks, cli, tmp_path, steps):
    (tmp_path / "none").mkdir()
    code, said = cli(*WORDS, *on(tmp_path / "none", masks))
    refused(code, said, steps, f"{tmp_path / 'none'} is an empty folder", "datamodule.root")
    (tmp_path / "none/notes.txt").write_text("not an image")
    code, said = cli(*WORDS, *on(tmp_path / "none", masks))
    refused(code, said, steps, f"{tmp_path / 'none'} holds no image", "datamodule.root")
