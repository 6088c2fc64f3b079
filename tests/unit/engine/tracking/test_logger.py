"""Tests of the content of offline run files: a run's numbers, optional parts and no names."""

import getpass
import socket
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score

from datamodules.errors import UserError
from engine.tracking.identity import ID_FILE as ID_FILE
from tests.factories.wandb_reader import ended, only
from tests.unit.engine.tracking.conftest import (
    DATA,
    ID,
    IMAGES,
    PATIENT,
    board,
    content,
    labels,
    reported,
)

SECRETS = (
    b"secret",
    str(Path.home()).encode(),
    getpass.getuser().encode(),
    *[name.encode() for name in [socket.gethostname()] if len(name) > 3],
)


def finished(folder, trainer=None, code=0, **more):
    """A run of two epochs that was tested."""
    logger = board(folder, **more)
    logger.log_hyperparams({"root": DATA})
    for epoch, (loss, f1) in enumerate([(0.9, 0.25), (0.7, 0.5)]):
        logger.log_metrics({"train/loss": loss, "val/f1": f1, "epoch": epoch}, step=10 * epoch)
    found = reported(folder, {"val": labels(1), "test": labels(2)})
    logger.close(code, trainer)
    return found, only(folder)


def test_the_numbers_are_there_and_no_name_of_a_folder_file_image_user_or_host(
    folder, trainer, capfd
):
    found, run = finished(folder, trainer)
    test = labels(2)
    assert (
        run.code == 0
        and run.run.host == ""
        and run.run.run_id == (folder / ID_FILE).read_text().strip()
    )
    assert run.values("train/loss") == [0.9, 0.7] and run.values("trainer/global_step")[:2] == [
        0,
        10,
    ]
    assert (
        run.summary["val/f1"] == {"max": 0.5, "last": 0.5}
        and run.metrics["val/f1"].step_metric == "trainer/global_step"
    )
    assert run.summary["test/f1"] == pytest.approx(
        f1_score(test.labels[:, 0], test.logits[:, 0] >= 0)
    )
    f1 = found["scores"]["test"]["finding"]["f1"]
    assert (run.summary["test/f1/low"], run.summary["test/f1/high"]) == (
        f1["low"],
        f1["high"],
    ) and f1["low"] < f1["high"]
    assert (
        run.summary["rule/threshold"] == 0.5
        and run.summary["parameters/trainable"] == 5
        and run.summary["test_set"] == test.identity
    )
    columns, rows = run.table("tables/scores")
    said = {(row[0], row[2]): row[columns.index("value")] for row in rows}
    assert said == {
        (split, name): value["value"]
        for split in ("val", "test")
        for name, value in found["scores"][split]["finding"].items()
    }
    columns, rows = run.table("confusion/matrix_table")
    assert [row[2] for row in rows] == confusion_matrix(
        test.labels[:, 0], test.logits[:, 0] >= 0
    ).ravel().tolist()
    assert (
        run.config["module"]["net"] == {"encoder_name": "resnet18"}
        and run.config["module"]["optimizer"]["lr"] == 1e-3
    )
    assert run.config["callbacks"] == {"label_threshold": {"objective": "youden"}} and run.config[
        "datamodule"
    ] == {"batch_size": 8}
    written = content(folder)
    assert not [secret for secret in SECRETS if secret in written] and not run.artifacts
    assert "wandb sync" in capfd.readouterr().out


def test_pictures_go_by_their_own_key_without_names(folder, trainer):
    _, run = finished(folder, trainer, upload={"images": True})
    (row,) = [row for row in run.history if "cases/captions" in row]
    assert row["cases/captions"] == ["worst · overlay"]
    pixels = np.asarray(Image.open(run.folder / "files" / row["cases/filenames"][0]))
    assert (
        pixels.shape == (16, 16, 3) and np.abs(pixels[8, 8].astype(int) - (200, 20, 10)).max() < 8
    )
    assert not [secret for secret in SECRETS if secret in content(folder)]


def test_names_of_images_go_by_their_own_key_and_with_pictures(folder, trainer):
    _, run = finished(folder, trainer, upload={"ids": True, "images": True})
    columns, rows = run.table("tables/images")
    assert columns == ["image", "patient group", "probability"]
    assert [row[:2] for row in rows] == [[f"{ID}{i}", f"{PATIENT}{i}"] for i in range(IMAGES)]
    assert [row[2] for row in rows] == pytest.approx(
        (1 / (1 + np.exp(-labels(2).logits[:, 0]))).tolist(), abs=1e-4
    )
    assert next(row for row in run.history if "cases/captions" in row)["cases/captions"] == [
        f"worst · {ID}5 · overlay"
    ]
    assert run.config["callbacks"]["feature_maps"] == {
        "ids": [7]
    }  # their numbers; words of the configuration have their own key
    rest = content(folder).replace(ID.encode(), b"").replace(PATIENT.encode(), b"")
    assert not [secret for secret in SECRETS if secret in rest]


def test_the_model_goes_by_its_own_key_as_weights_alone(folder, trainer, monkeypatch):
    monkeypatch.chdir(folder)
    _, run = finished(folder, trainer, upload={"model": True})
    (artifact,) = run.artifacts
    (entry,) = artifact.manifest.contents
    stored = torch.load(entry.local_path, weights_only=True)
    assert (
        artifact.type == "model"
        and entry.path == "model.ckpt"
        and stored["FilmsDataModule"] == {"image_size": [32, 64]}
    )
    assert set(stored) == {"state_dict", "FilmsDataModule"} and stored["state_dict"][
        "net.weight"
    ].tolist() == [1, 1]
    assert not [secret for secret in SECRETS if secret in content(folder)]


def test_folders_and_files_go_by_their_own_key(folder, trainer):
    _, run = finished(folder, trainer, upload={"paths": True})
    assert run.config["datamodule"]["root"] == DATA and run.config["paths"]["run"] == str(folder)
    assert ID.encode() not in content(folder) and PATIENT.encode() not in content(folder)


def test_a_failed_run_is_marked_and_the_next_has_nothing_of_it(folder):
    _, first = finished(folder, code=1)
    assert first.code == 1 and "test/f1" not in first.summary
    other = folder.parent / "other"
    other.mkdir()
    (other / "config.yaml").write_text(
        (folder / "config.yaml").read_text().replace(str(folder), str(other))
    )
    logger = board(other)
    logger.log_metrics({"val/f1": 0.125}, step=0)
    logger.close(0)
    second = only(other)
    assert (
        second.values("val/f1") == [0.125]
        and second.run.run_id != first.run.run_id
        and "train/loss" not in second.summary
    )


def test_results_that_an_earlier_run_left_in_the_folder_are_not_sent(folder):
    reported(folder, {"test": labels(2)})
    logger = board(folder)
    logger.log_metrics({"val/f1": 0.5}, step=0)
    logger.close(0)
    assert "test/f1" not in only(folder).summary


def test_a_server_that_is_away_leaves_an_offline_run_and_one_sentence(
    folder, monkeypatch, capfd, fresh_session
):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    _, run = finished(folder, mode="online", timeouts={"start": 1, "end": 1})
    said = capfd.readouterr()
    assert (
        run.values("train/loss") == [0.9, 0.7] and len(list((folder / "wandb").glob("*run-*"))) == 1
    )
    (sentence,) = [
        line
        for line in (said.out + said.err).splitlines()
        if line.startswith("W&B: the server does not")
    ]
    assert sentence.endswith("so it is kept offline")


def test_w_and_b_that_dies_in_the_middle_is_said_once_and_the_run_and_the_next_go_on(
    folder, capfd, fresh_session
):
    logger = board(folder)
    logger.log_metrics({"val/f1": 0.5}, step=0)
    service = next(child for child in psutil.Process().children() if "wandb-core" in child.name())
    service.kill()
    service.wait()
    for step in range(1, 4):
        logger.log_metrics({"val/f1": 0.5}, step=step)
    logger.close(0)
    said = capfd.readouterr().err
    assert (
        said.count("W&B: logging has stopped") <= 1
        and said.count("W&B: the run did not end properly") == 1
    )
    other = board(folder)
    other.log_metrics({"val/f1": 0.25}, step=0)
    other.close(0)
    last = max((folder / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
    assert ended(last).values("val/f1") == [0.25]


def test_below_an_agent_the_sweep_decides_who_the_run_is(folder, monkeypatch, fresh_session):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    _, run = finished(folder, group="mine")
    assert run.run.sweep_id == "sweep1" and run.run.run_group == "mine" and not run.run.display_name
    assert (
        not (folder / ID_FILE).exists() and run.summary["val/f1"] == 0.5
    )  # what a W&B sweep compares is a plain number


def test_other_ranks_and_a_disabled_run_neither_write_nor_import_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import fails
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    finished_silently(board(folder))
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    finished_silently(board(folder, mode="disabled"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    finished_silently(board(folder, mode="online"))
    assert not (folder / "wandb").exists()


def finished_silently(logger):
    logger.log_hyperparams({})
    if rank_zero_only.rank == 0:
        logger.log_metrics({"val/f1": 0.5}, step=0)
    logger.close(0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mode": "of"}, "mode=of is not allowed; it must be online, offline or disabled"),
        ({"upload": {"ids": 2}}, "upload.ids=2 is not allowed; it must be true or false"),
    ],
)
def test_what_does_not_exist_is_refused(folder, more, said):
    with pytest.raises(UserError, match=said):
        board(folder, **more)
