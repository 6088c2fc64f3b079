"""Tests of runs with pretrained weights: fetched, found offline, named, refused in time."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from lightning_modules.library_imports import smp
from tests.conftest import SMALL, folder_hash, refused

REPOSITORY = "smp-hub/resnet18.imagenet"
ASKED = "module.net.encoder.weights=imagenet"


@pytest.fixture
def published(hub):
    """ResNet-18 on the hub, with a mean and std of its own."""
    state = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    stated = {"mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3], "input_range": [0, 1]}
    hub.repositories[REPOSITORY] = {
        "config.json": json.dumps(stated).encode(),
        "model.safetensors": save({name: value.contiguous() for name, value in state.items()}),
    }
    return hub, state


@pytest.mark.slow
def test_weights_are_fetched_once_and_used_on_a_machine_without_network(
    published, cli, export, tmp_path, monkeypatch
):
    hub, state = published
    weights = tmp_path / "weights"
    code, said = cli(*SMALL, ASKED, "do=[fetch]", f"paths.weights={weights}")
    assert code == 0, said
    hub.repositories.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = shutil.move(weights, tmp_path / "copied")
    words = [*SMALL, ASKED, f"datamodule.root={export}", f"paths.weights={offline}"]
    run = tmp_path / "a"
    before = folder_hash(export)
    code, said = cli(*words, "trainer.max_epochs=1", "module.optimizer.lr=0.0", folder=run)
    assert code == 0, said
    assert folder_hash(export) == before
    report = json.loads((run / "report.json").read_text())
    (named,) = report["pretrained_weights"]
    assert named["origin"] == "folder" and named["license"] == "apache-2.0"
    manifest = json.loads((Path(offline) / "manifest.json").read_text())["files"]
    assert named["sha256"] == manifest[f"{REPOSITORY}/model.safetensors"]["sha256"]
    assert report["normalization"]["mean"] == pytest.approx([0.4])
    page = (run / "report.html").read_text()
    assert "pretrained weights" in page and named["sha256"][:16] in page
    assert str(tmp_path) not in json.dumps(report["pretrained_weights"])
    stored = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    deep = "layer4.1.conv2.weight"
    assert torch.equal(stored["state_dict"][f"net.encoder.{deep}"], state[deep])
    again = tmp_path / "b"
    code, said = cli("do=[test]", f"ckpt_path={run}", f"datamodule.root={export}", folder=again)
    assert code == 0, said
    assert json.loads((again / "report.json").read_text())["pretrained_weights"] == [named]


def test_weights_that_cannot_be_had_stop_a_run_before_its_data_is_read(
    cli, export, steps, tmp_path
):
    code, said = cli(*SMALL, ASKED, f"datamodule.root={export}")
    refused(code, said, steps, "HF_HUB_OFFLINE is set", "module/net/encoder=lite0")
    assert "do=[fetch]" in said
    assert not list((tmp_path / "cache").glob("*"))
    damaged = tmp_path / "w.pth"
    damaged.write_bytes(b"PK\x03\x04")
    code, said = cli(*SMALL, f"module.net.encoder.weights={damaged}", f"datamodule.root={export}")
    refused(code, said, steps, "the file is damaged or incomplete", "name another file")


def test_nothing_to_fetch(cli, capfd):
    code, said = cli(*SMALL, "do=[fetch]")
    assert code == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["lora_pneumonia", "preclassify_pnx"])
def test_the_demo_learns_from_imagenet_weights_without_another_run(cli, experiment, tmp_path):
    words = [f"experiment={experiment}", "scale=demo", f"paths.runs={tmp_path / 'runs'}"]
    code, said = cli(*words, "trainer.enable_progress_bar=false")
    assert code == 0, said
    report = json.loads((tmp_path / "run/report.json").read_text())
    scores = next(iter(report["scores"][report["evaluated_split"]].values()))
    assert scores["auc"]["low"] > 0.5
    assert not (tmp_path / "runs/pretrain_chest").exists()
