"""Tests of non-square canvases through run.py: fit, page, predictions and refused sizes."""

import json

import cv2
import numpy as np
import pytest
import torch

from tests.conftest import SMALL, refused

WORDS = [word for word in SMALL if not word.startswith("image_size")]
MAPS = (
    "callbacks=[checkpoint,threshold_search/segmentation,graceful_shutdown,nonfinite_loss,resources,feature_maps,"
    "predictions,report]"
)


@pytest.mark.slow
def test_a_tall_canvas_goes_the_whole_way(cli, export, tmp_path):
    words = [
        *WORDS,
        MAPS,
        f"datamodule.root={export}",
        "image_size=[96,64]",
        "callbacks.feature_maps.images=1",
        "evaluation_size=native",
    ]
    code, said = cli(*words, "trainer.max_epochs=1", "do=[fit,test,predict]")
    assert code == 0, said
    run = tmp_path / "run"
    assert json.loads((run / "report.json").read_text())["config"]["image_size"] == [96, 64]
    sizes = {cv2.imread(str(path), 0).shape for path in (run / "predictions/masks").glob("*.png")}
    assert sizes and all(np.prod(size) > 64 * 64 for size in sizes), (
        "predictions are at the images' own sizes"
    )
    assert list((run / "feature_maps").glob("*/*.png"))
    checkpoint = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0

    code, said = cli(*words, "do=[test]", f"ckpt_path={run}", folder=tmp_path / "again")
    assert code == 0, said
    scores = [
        json.loads((tmp_path / name / "report.json").read_text())["scores"]["test"]
        for name in ("run", "again")
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("words", "wrong", "mend"),
    [
        (
            ["image_size=[100,64]"],
            "image_size=[100,64] is not a multiple of 32",
            "try [96,64]",
        ),
        (["image_size=[64,64,64]"], "image_size=[64,64,64] is not allowed", "[height,width]"),
        (["image_size=tall"], "image_size=tall is not allowed", "[1024,512]"),
        (
            ["image_size=[96,64]", "datamodule.cache_size=128"],
            "datamodule.cache_size=128 is not of the aspect ratio",
            "datamodule.cache_size=null",
        ),
        (
            ["image_size=64", "datamodule.cache_size=[128,64]"],
            "is not square",
            "datamodule.cache_size=null",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused(words, wrong, mend, cli, export, steps):
    code, said = cli(*WORDS, f"datamodule.root={export}", *words)
    refused(code, said, steps, wrong, mend)
