"""Tests of the window through run.py: stored in the checkpoint, used by test and predict."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from datamodules.formats.gray_levels import LevelMap
from lightning_modules.training_record import RECORD_KEY
from tests.conftest import SMALL, refused
from tests.factories.finished_run import finish_run
from tests.integration.test_pixel_cases import disc, scene

WORDS = [
    *(word for word in SMALL if not word.startswith("callbacks=")),
    "datamodule=table",
    "datamodule.num_workers=0",
    "module.classes=[lesion]",
    "trainer.max_epochs=1",
    "callbacks=[checkpoint,threshold_search/segmentation,predictions,report]",
]


def write(root, number, factor):
    """Images of 16 bits (`factor` times 8 bits) or, with factor 0, of 8 bits, and their table."""
    root.mkdir()
    rows = []
    for n in range(number):
        mask = disc(top=12 + n)
        gray = scene(mask, n + 100 * factor)
        pixels = gray if not factor else gray.astype(np.uint16) * factor
        Image.fromarray(pixels).save(root / f"i{n}.png")
        Image.fromarray(mask * 255).save(root / f"m{n}.tif")
        split = ("train", "train", "val", "test")[n % 4]
        rows.append({"id": f"i{n}", "image": f"i{n}.png", "mask": f"m{n}.tif", "split": split})
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    return root


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return write(tmp_path_factory.mktemp("deep") / "data", 16, 16)


@pytest.fixture(scope="module")
def trained(deep, tmp_path_factory):
    words = [*WORDS, f"datamodule.root={deep}", "do=[fit,test]"]
    return finish_run(words, tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def windows(monkeypatch):
    """Windows that images of more than 8 bits were displayed by."""
    found, own = set(), LevelMap.to_uint8

    def spy(self, levels, window):
        if self.deep and levels.shape[:2] == (64, 64):
            found.add(window)
        return own(self, levels, window)

    monkeypatch.setattr(LevelMap, "to_uint8", spy)
    return found


def folder_words(root, run):
    return [
        *WORDS,
        "datamodule=folder",
        f"datamodule.root={root}",
        "do=[predict]",
        f"ckpt_path={run}",
    ]


@pytest.mark.slow
def test_the_window_of_the_training_is_used_on_other_images(trained, deep, cli, tmp_path, windows):
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    state = checkpoint["TableDataModule"]["window"]
    assert state == checkpoint[RECORD_KEY]["window"] and not state["given"]
    images = [np.asarray(Image.open(deep / f"i{n}.png")) for n in range(16) if n % 4 < 2]
    assert state["range"] == pytest.approx(np.percentile(images, [0.5, 99.5]), abs=16 * 2)

    other = write(tmp_path / "other", 3, 8)  # by its own percentiles it would be as bright
    for mask in other.glob("m*.tif"):
        mask.unlink()
    (other / "manifest.csv").unlink()
    code, said = cli(*folder_words(other, trained))
    own_range = {window for window in windows if window != tuple(state["range"])}
    assert code == 0 and tuple(state["range"]) in windows, said
    assert len(own_range) <= 3  # the thumbnails of the search for duplicates

    windows.clear()
    words = [*WORDS, f"datamodule.root={deep}", "do=[test]", f"ckpt_path={trained}"]
    code, said = cli(*words, folder=tmp_path / "again")
    assert code == 0 and tuple(state["range"]) in windows, said
    scores = [
        json.loads((folder / "report.json").read_text())["scores"]["test"]
        for folder in (trained, tmp_path / "again")
    ]
    assert scores[0] == scores[1]

    windows.clear()
    code, said = cli(*words, "datamodule.window=[0,9000]", folder=tmp_path / "given")
    assert code == 0 and (0.0, 9000.0) in windows, said
    assert "datamodule.window=[0,9000] is used, and" in said and "was trained with [" in said


@pytest.mark.slow
def test_folds_with_windows_of_their_own_answer_together(deep, cli, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(deep, root)
    table = pd.read_csv(root / "manifest.csv").drop(columns="split")
    table.to_csv(root / "manifest.csv", index=False)
    words = [*WORDS, f"datamodule.root={root}", "folds=2", "do=[fit,test]"]
    code, said = cli(*words, folder=tmp_path / "folds")
    assert code == 0, said
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(deep / "i0.png", other)
    code, said = cli(*folder_words(other, tmp_path / "folds"))
    assert code == 0 and "were trained with the windows [" in said, said
    assert "fold0/checkpoints/best.ckpt is used" in said


@pytest.mark.slow
def test_a_network_of_8_bits_does_not_guess_the_window_of_deeper_images(deep, cli, tmp_path, steps):
    gray = write(tmp_path / "gray", 16, 0)
    code, said = cli(*WORDS, f"datamodule.root={gray}", "do=[fit]", folder=tmp_path / "fit")
    assert code == 0, said
    steps.clear()
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((deep / "i0.png").read_bytes())
    code, said = cli(*folder_words(other, tmp_path / "fit"))
    refused(code, said, steps, "a.png, and no training image has", "datamodule.window=[low,high]")
    code, said = cli(
        *folder_words(other, tmp_path / "fit"), "datamodule.window=[0,4000]", folder=tmp_path / "b"
    )
    assert code == 0, said


@pytest.mark.slow
def test_a_prediction_goes_on_without_unreadable_files(trained, deep, cli, tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for n in range(2):
        (root / f"i{n}.png").write_bytes((deep / f"i{n}.png").read_bytes())
    (root / "broken.png").write_bytes((deep / "i0.png").read_bytes()[:200])
    (root / "no.dcm").write_bytes(b"not a DICOM")
    code, said = cli(*folder_words(root, trained))
    assert code == 3 and "2 of 4 files cannot be read and have no prediction" in said, said
    run = tmp_path / "run"
    table = list(csv.DictReader((run / "predictions/submission.csv").open()))
    assert [row["ImageId"] for row in table] == ["i0", "i1", "broken", "no"]
    assert all(row["problem"] == "" for row in table[:2])
    assert table[2]["EncodedPixels"] == "unreadable" and "broken.png" in table[2]["problem"]
    assert "no.dcm is not a DICOM file" in table[3]["problem"]
    assert len(list((run / "predictions/masks").glob("*.png"))) == 2
    assert json.loads((run / "outcome.json").read_text())["status"] == "finished"
    for path in root.iterdir():
        path.write_bytes(b"broken")
    code, said = cli(*folder_words(root, trained), folder=tmp_path / "none")
    assert code == 2 and "broken.png is not an image that can be read" in said
