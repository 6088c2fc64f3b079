"""Tests of runs that start from a checkpoint: no pretrained weights are asked for.

The tests have no hub, so that asking for weights ends a run.
"""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from lightning_modules.configured_weights import drop_replaced_weights
from tests.conftest import SMALL, SMALL_LABELS

NAMED = "module.net.encoder.weights=imagenet"


def read_scores(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())["scores"]


@pytest.mark.slow
def test_a_checkpoint_is_tested_and_trained_on_without_its_pretrained_weights(
    cli, export, tmp_path
):
    words = [*SMALL, f"datamodule.root={export}", "trainer.max_epochs=1"]
    first, again = tmp_path / "first", tmp_path / "again"
    assert cli(*words, folder=first)[0] == 0
    code, said = cli(*words, NAMED, "do=[test]", f"ckpt_path={first}", folder=again)
    assert code == 0, said
    assert read_scores(again)["test"] == read_scores(first)["test"]
    report = json.loads((again / "report.json").read_text())
    assert report["config"]["module"]["net"]["encoder"]["weights"] == "imagenet"
    for start in ("init_from", "ckpt_path"):
        more = [f"{start}={first}", "trainer.max_epochs=2", "do=[fit]"]
        code, said = cli(*words, NAMED, *more, folder=tmp_path / start)
        assert code == 0, said


@pytest.mark.slow
def test_a_network_that_is_built_for_one_size_is_tested_at_the_size_of_its_run(
    cli, radiographs, tmp_path
):
    words = [
        *SMALL_LABELS,
        "module/net=classifier",
        "module.net.encoder.name=vit_tiny_patch16_224",
        "module.net.encoder.weights=null",
        f"datamodule.root={radiographs}",
        "trainer.max_epochs=1",
    ]
    first, again = tmp_path / "first", tmp_path / "again"
    code, said = cli(*words, folder=first)
    assert code == 0, said
    later = [word for word in words if not word.startswith("image_size=")]
    code, said = cli(
        *later,
        "module.net.encoder.weights=imagenet",
        "do=[test]",
        f"ckpt_path={first}",
        folder=again,
    )
    assert code == 0, said
    assert read_scores(again)["test"] == read_scores(first)["test"]


@pytest.fixture
def make_checkpoint(tmp_path):
    def make(kind: str) -> Path:
        state = {
            "plain": {"net.weight": torch.ones(1)},
            "whole": {"net._extra_state": {"frozen": "a", "checkpoint": "whole"}},
            "adapter": {"net._extra_state": {"frozen": "a", "checkpoint": "adapter"}},
        }[kind]
        torch.save({"state_dict": state}, tmp_path / f"{kind}.ckpt")
        return tmp_path / f"{kind}.ckpt"

    return make


@pytest.mark.parametrize(
    ("kinds", "dropped"),
    [
        ([], False),
        (["plain"], True),
        (["whole"], True),
        (["adapter"], False),
        (["adapter", "plain"], True),  # an adapter that was trained on the body of another run
    ],
)
def test_weights_are_dropped_where_a_checkpoint_has_them_all(kinds, dropped, make_checkpoint):
    net = {"encoder": {"weights": "imagenet", "name": "resnet18"}, "lora": None}
    cfg = OmegaConf.create({"module": {"net": net, "loss": {"weights": "auto"}}})
    assert drop_replaced_weights(cfg, list(map(make_checkpoint, kinds))) is dropped
    assert cfg.module.net.encoder.weights == (None if dropped else "imagenet")
    assert cfg.module.loss.weights == "auto"


def test_a_network_that_is_built_otherwise_with_weights_keeps_them(make_checkpoint):
    net = {"encoder": {"weights": "imagenet", "name": "inception_v3"}}
    cfg = OmegaConf.create({"module": {"net": net}})
    assert not drop_replaced_weights(cfg, [make_checkpoint("plain")])
    assert cfg.module.net.encoder.weights == "imagenet"
