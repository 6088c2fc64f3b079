"""Tests that a run folder alone suffices to test, predict and export its network."""

import errno
import json
import shutil
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from deployment.result_files import ResultFiles
from tests.conftest import SMALL, folder_hash, refused
from tests.factories.finished_run import finish_run

CALLBACKS = (
    "callbacks=[checkpoint,threshold_search/segmentation,graceful_shutdown,nonfinite_loss,"
    "resources,predictions,report]"
)
WORDS = [
    *(word for word in SMALL if not word.startswith("callbacks=")),
    CALLBACKS,
    "datamodule.split=group",
    "datamodule.seed=1",
    "callbacks.predictions.pictures=2",
]


@pytest.fixture(scope="module")
def trained(export, tmp_path_factory) -> Path:
    """A run that was trained in bf16 on a split by group, and tested."""
    words = [*WORDS, f"datamodule.root={export}", "trainer.max_epochs=2"]
    words += ["datamodule.batches_per_epoch=4", "trainer.precision=bf16-mixed", "do=[fit,test]"]
    return finish_run(words, tmp_path_factory.mktemp("trained") / "run")


def report_of(run: Path) -> dict:
    return json.loads((run / "report.json").read_text())


def test_a_test_needs_no_word_but_the_run(trained, cli, tmp_path):
    before = folder_hash(trained)
    code, said = cli("do=[test]", f"ckpt_path={trained}")
    assert code == 0, said
    then, now = report_of(trained), report_of(tmp_path / "run")
    assert now["identity"] == then["identity"] and now["title"] == then["title"]
    assert now["rule"] == then["rule"]
    # trained in bf16 and evaluated in fp32, both times
    assert now["scores"]["test"] == then["scores"]["test"]
    assert folder_hash(trained) == before
    best = trained / "checkpoints" / "best.ckpt"
    digest = sha256(best.read_bytes()).hexdigest()
    assert now["checkpoints"] == [{"path": str(best), "sha256": digest}]
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_the_rule_of_the_best_checkpoint_is_of_fp32_and_that_of_the_last_one_of_the_training(
    trained, cli, tmp_path
):
    precision = {
        name: torch.load(trained / f"checkpoints/{name}.ckpt", weights_only=True)["rule_precision"]
        for name in ("best", "last")
    }
    assert precision == {"best": "32-true", "last": "bf16-mixed"}
    last = trained / "checkpoints" / "last.ckpt"
    code, said = cli("do=[test]", f"ckpt_path={last}")
    assert code == 0, said
    # searched again on val, so that val has scores too
    assert set(report_of(tmp_path / "run")["scores"]) >= {"val", "test"}


def test_the_images_of_a_run_travel_with_it(trained, export):
    rows = pd.read_csv(trained / "split.csv")
    assert set(rows["split"]) == {"train", "val", "test"} and not rows["id"].duplicated().any()
    assert (rows.groupby("group")["split"].nunique() == 1).all()
    for row in rows.itertuples():
        path = export / row.id.replace("val/", "valid/")
        assert sha256(path.read_bytes()).hexdigest() == row.sha256


def test_another_split_is_refused_by_name(trained, cli, steps, tmp_path):
    code, said = cli("do=[test]", f"ckpt_path={trained}", "datamodule.seed=5")
    wrong, fix = "test images were trained on or chosen by", "datamodule.allow_leaks=true"
    refused(code, said, steps, wrong, fix)


@pytest.fixture(scope="module")
def copies(trained, export, tmp_path_factory) -> Path:
    """The export with all images brighter and under other names, which no hash can find."""
    root = tmp_path_factory.mktemp("copies") / "data"
    shutil.copytree(export, root)
    for folder in (root / "train", root / "valid", root / "test"):
        path = folder / "_annotations.coco.json"
        content = json.loads(path.read_text())
        for image in content["images"]:
            old = folder / image["file_name"]
            image["file_name"] = f"new{image['file_name']}"
            if old.is_file():
                gray = cv2.imread(str(old), cv2.IMREAD_GRAYSCALE)
                brighter = np.clip(gray.astype(np.float32) * 1.1 + 3, 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / image["file_name"]), brighter)
                old.unlink()
        path.write_text(json.dumps(content))
    return root


@pytest.mark.slow
def test_near_duplicates_of_training_images_are_refused_on_other_data(
    trained, copies, cli, steps, tmp_path
):
    words = ["do=[test]", f"ckpt_path={trained}", f"datamodule.root={copies}"]
    code, said = cli(*words, "datamodule.split=folders")
    refused(code, said, steps, "nearly equal an image that was trained on", "allow_leaks=true")
    allowed = [*words, "datamodule.split=folders", "datamodule.allow_leaks=true"]
    code, said = cli(*allowed, folder=tmp_path / "allowed")
    assert code == 0, said
    report = report_of(tmp_path / "allowed")
    assert "test images nearly equal images that were trained on" in report["title"]
    assert report["title"] in (tmp_path / "allowed" / "report.html").read_text()


def test_conf_files_that_changed_since_are_refused_by_name(trained, cli, steps, tmp_path):
    run = shutil.copytree(trained, tmp_path / "moved")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["module"]["net"]["decoder_channels"] = [32, 16, 8]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    code, said = cli("do=[test]", f"ckpt_path={run}")
    wrong = "module.net.decoder_channels=[16,8,8]"
    refused(code, said, steps, wrong, "set module.net.decoder_channels=[32,16,8]")


@pytest.mark.parametrize(
    ("word", "wrong"),
    [
        ("module.classes=[edema]", "module.classes"),
        ("datamodule.channels=3", "channels"),
        ("module.net.encoder.name=resnet34", "belongs to another network"),
    ],
)
def test_words_that_contradict_the_network_are_refused(trained, cli, steps, word, wrong):
    code, said = cli("do=[test]", f"ckpt_path={trained}", word)
    refused(code, said, steps, wrong, "set ")


def test_a_run_whose_data_are_gone_still_predicts_other_images(
    trained, export, cli, steps, tmp_path
):
    run = shutil.copytree(trained, tmp_path / "moved")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["datamodule"]["root"] = str(tmp_path / "gone")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    words = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())
    words = [f"datamodule.root={tmp_path}/gone" if "root=" in word else word for word in words]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    code, said = cli("do=[test]", f"ckpt_path={run}")
    refused(code, said, steps, f"datamodule.root={tmp_path}/gone is not a folder", "set DATA_ROOT")
    images = shutil.copytree(export / "test", tmp_path / "images")
    before = folder_hash(images)
    code, said = cli("do=[predict]", f"ckpt_path={run}", f"datamodule.root={images}")
    assert code == 0, said
    table = pd.read_csv(tmp_path / "run" / "predictions" / "predictions.csv")
    assert len(table) == len(list(images.glob("*.jpg"))) and folder_hash(images) == before
    page = (tmp_path / "run" / "predictions" / "predictions.html").read_text()
    assert "images were trained on, or the network was chosen by them" in page


@pytest.mark.slow
def test_a_disk_that_is_full_ends_a_prediction_with_a_sentence_and_it_goes_on_later(
    trained, export, cli, tmp_path, monkeypatch
):
    words = ["do=[predict]", f"ckpt_path={trained}", f"datamodule.root={export / 'valid'}"]
    written: list[str] = []
    plain = ResultFiles._write_png

    def fill(self, subfolder, id, pixels):
        if len(written) >= 13:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.folder))
        written.append(id)
        plain(self, subfolder, id, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(ResultFiles, "_write_png", fill)
        code, said = cli(*words, folder=tmp_path / "full")
    assert code == 2 and "no space is left on the disk" in said, said
    assert "resume=auto continues" in said and "Traceback" not in said
    assert not (tmp_path / "full" / "predictions" / "predictions.csv").exists()
    code, said = cli(*words, "resume=auto", folder=tmp_path / "full")
    assert code == 0, said
    code, said = cli(*words, folder=tmp_path / "whole")
    assert code == 0, said
    whole, full = tmp_path / "whole" / "predictions", tmp_path / "full" / "predictions"
    for path in whole.rglob("*.png"):
        assert (full / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert (full / "submission.csv").read_bytes() == (whole / "submission.csv").read_bytes()
