"""Tests of two ranks against one: images, losses, evidence and resuming on any number."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from evaluation.evidence import read_evidence
from tests.conftest import DEMO, SMALL, SMALL_PNX
from tests.factories.distributed import one_rank, ranks, start

SWIN = (
    "module.net.backbone={embed_dim:8,depths:[1,1,1,1],num_heads:[1,1,2,2],window_size:4,"
    "drop_path_rate:0.0}"
)
WORDS = [
    "experiment=upernet_pnx",
    *DEMO[:2],
    "trainer.precision=32-true",
    "image_size=64",
    "evaluation_size=native",
    SWIN,
    "module.net.weights=null",
    "module.net.hidden_size=16",
    "module.net.norm=group",  # no statistics that a rank would have of its own
    "module/scheduler=plateau",
    "module.optimizer.lr=1e-3",
    "datamodule.sampling.negative_fraction=0.5",
    "datamodule.eval_batch_size=4",
    "datamodule.batches_per_epoch=4",
    "datamodule.seed=0",
    "callbacks=[checkpoint,threshold_search/segmentation,sampling_monitor,graceful_shutdown,nonfinite_loss,resources,report]",
]


@pytest.fixture(scope="module")
def words(thorax, tmp_path_factory):
    return [*WORDS, f"datamodule.root={thorax}", f"paths.cache={tmp_path_factory.mktemp('cache')}"]


@pytest.fixture(scope="module")
def alone(words, tmp_path_factory):
    """Two epochs of one process with batches of four."""
    folder = tmp_path_factory.mktemp("ranks") / "alone"
    ranks(1, [*words, "datamodule.batch_size=4", "trainer.max_epochs=2"], folder)
    return folder


def epochs(folder) -> pd.DataFrame:
    """What metrics.csv says of each epoch."""
    table = pd.read_csv(folder / "metrics.csv")
    return table.groupby("epoch").first()


def test_two_ranks_see_the_same_samples_as_one_and_follow_its_loss(alone, words, tmp_path):
    said = ranks(2, [*words, "datamodule.batch_size=2", "trainer.max_epochs=2"], tmp_path / "two")
    assert said.count("what this run does") == 1 and said.count("page:") == 1
    one, two = epochs(alone), epochs(tmp_path / "two")
    drawn = [name for name in one if name.startswith("sampling/")]
    assert len(drawn) > 3 and np.allclose(one[drawn].dropna(), two[drawn].dropna())
    assert np.allclose(one["train/loss"].dropna(), two["train/loss"].dropna(), atol=1e-4)
    assert np.allclose(
        one["val/loss"].dropna(), two["val/loss"].dropna(), atol=1e-4
    )  # of 9 images, so the ranks have not the same number


def test_the_evidence_of_two_ranks_is_that_of_one(alone, words, tmp_path):
    ranks(2, [*words, "do=[test]", f"ckpt_path={alone}"], tmp_path / "two")
    ranks(1, [*words, "do=[test]", f"ckpt_path={alone}"], tmp_path / "one")
    one, two = (read_evidence(tmp_path / name / "evidence/test.npz") for name in ("one", "two"))
    assert (
        one.ids.tolist() == two.ids.tolist()
        and len(set(one.ids)) == len(one.ids)
        and one.groups.tolist() == two.groups.tolist()
    )
    moved = np.abs(one.counts - two.counts).sum() / 2
    assert moved <= 1e-4 * one.counts.sum()
    assert one.identity == two.identity and np.array_equal(one.rule, two.rule)


@pytest.mark.slow
def test_all_ranks_validate_the_network_that_is_saved(words, tmp_path):
    """BatchNorm statistics differ per rank in training; the last row is of the checkpoint."""
    words = [word for word in words if word != "module.net.norm=group"]
    ranks(2, [*words, "datamodule.batch_size=2", "trainer.max_epochs=1"], tmp_path / "two")
    in_fit, of_checkpoint = pd.read_csv(tmp_path / "two/metrics.csv")["val/loss"].dropna()
    assert in_fit == of_checkpoint


@pytest.mark.slow
def test_a_run_of_two_ranks_that_was_stopped_goes_on_alone_with_the_same_samples(
    alone, words, tmp_path
):
    ranks(2, [*words, "datamodule.batch_size=2", "trainer.max_epochs=1"], tmp_path / "part")
    ranks(
        1,
        [
            *words,
            "datamodule.batch_size=4",
            "trainer.max_epochs=2",
            f"ckpt_path={tmp_path / 'part'}",
        ],
        tmp_path / "rest",
    )
    one, rest = epochs(alone), epochs(tmp_path / "rest")
    assert rest["train/loss"].dropna().index.tolist() == [0, 1]  # the rows of the first part too
    assert rest["train/loss"][1] == pytest.approx(one["train/loss"][1], abs=1e-4)


@pytest.mark.slow
def test_a_termination_stops_all_ranks_at_one_step_and_resume_auto_ends_with_the_same_weights(
    words, tmp_path
):
    """The signal goes to one rank alone; both continue exactly, each with its own dropout."""
    words = [
        *words,
        "datamodule.batch_size=2",
        "trainer.max_epochs=2",
        "datamodule.batches_per_epoch=12",
    ]
    words += ["trainer.devices=2", "do=[fit]", "resume=auto"]
    words = [word for word in words if word != SWIN] + [
        SWIN.replace("drop_path_rate:0.0", "drop_path_rate:0.3")
    ]
    ranks(2, words, tmp_path / "whole")
    folder = tmp_path / "cut"
    processes = start(2, [*words, f"hydra.run.dir={folder}"], tmp_path / "cut_logs")
    deadline = time.monotonic() + 120
    while (
        not (folder / "checkpoints/last.ckpt").is_file() and time.monotonic() < deadline
    ):  # the first epoch is over
        time.sleep(0.05)
    os.kill(processes[1].pid, signal.SIGTERM)
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [130, 130]
    steps = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert 12 <= steps < 24
    assert f"stopped after step {steps};" in (tmp_path / "cut_logs/rank0.log").read_text()
    ranks(2, words, folder)
    whole, rest = (
        torch.load(path / "checkpoints/last.ckpt", weights_only=True)
        for path in (tmp_path / "whole", folder)
    )
    assert all(
        torch.equal(value, rest["state_dict"][name]) for name, value in whole["state_dict"].items()
    )
    assert not torch.equal(whole["random_states"][0]["cpu"], whole["random_states"][1]["cpu"])
    one, two = (pd.read_csv(path / "metrics.csv") for path in (tmp_path / "whole", folder))
    assert (
        one["step"].tolist() == two["step"].tolist()
        and one["train/loss"].dropna().iloc[0] == two["train/loss"].dropna().iloc[0]
    )


def keep_images(root, split, number):
    """Leave the first few images of a COCO split."""
    path = root / split / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["images"] = content["images"][:number]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    path.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.parametrize("images", [1, 3])
def test_two_ranks_evaluate_three_images_and_refuse_to_share_one(images, export, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(export, root)
    for split in ("valid", "test"):
        keep_images(root, split, images)
    words = [*SMALL, f"datamodule.root={root}", f"paths.cache={tmp_path / 'cache'}"]
    words += ["trainer.max_epochs=1", "trainer.devices=2", "datamodule.eval_batch_size=1"]
    if images == 3:
        ranks(2, words, tmp_path / "run")
        evidence = read_evidence(tmp_path / "run/evidence/test.npz")
        assert len(set(evidence.ids)) == len(evidence) == 3
        return
    processes = start(2, [*words, f"hydra.run.dir={tmp_path / 'run'}"], tmp_path / "logs")
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [2, 2]
    for path in (tmp_path / "logs").iterdir():
        assert "val has 1 image for 2 processes (trainer.devices=2)" in path.read_text()


def one_slow_rank(rank, world_size, port, words, log):
    """A rank whose steps of a test take half a second."""
    from lightning_modules.base import SupervisedModule

    own = SupervisedModule.test_step

    def step(module, batch, batch_idx):
        Path(f"{log}.step").touch()
        time.sleep(0.5)
        return own(module, batch, batch_idx)

    SupervisedModule.test_step = step
    one_rank(rank, world_size, port, words, log)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [[0, 1], [1], [0]], ids=["all ranks", "rank 1", "rank 0"])
def test_a_termination_in_a_test_ends_all_ranks_with_a_sentence(stopped, alone, words, tmp_path):
    words = [*words, "do=[test]", f"ckpt_path={alone}", "datamodule.eval_batch_size=1"]
    words += ["trainer.devices=2", f"hydra.run.dir={tmp_path / 'run'}"]
    processes = start(2, words, tmp_path / "logs", one_slow_rank)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "logs").glob("*.step"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    for rank in stopped:
        os.kill(processes[rank].pid, signal.SIGTERM)
    for process in processes:
        process.join(60)
    said = [path.read_text() for path in sorted((tmp_path / "logs").glob("*.log"))]
    codes = [process.exitcode for process in processes]
    assert all(codes[rank] == 130 and "SIGTERM" in said[rank] for rank in stopped), codes
    assert None not in codes and not re.search("Traceback|bug", "".join(said))
    if stopped == [1]:  # the other rank only sees that it no longer answers
        assert codes[0] == 2 and "another process of this run has ended" in said[0]
    else:
        outcome = json.loads((tmp_path / "run/outcome.json").read_text())
        assert outcome["status"] == "interrupted"


@pytest.mark.slow
def test_a_curriculum_on_two_ranks_keeps_every_stages_length_and_rate_and_writes_once(
    thorax, tmp_path
):
    stages = (
        "[{epochs:1,lr:1e-3,batch_size:2,positive_fraction:0.5},"
        "{epochs:1,lr:5e-4,batch_size:3,positive_fraction:0.3,image_size:64}]"
    )
    words = [
        *SMALL_PNX,
        f"datamodule.root={thorax}",
        f"paths.cache={tmp_path / 'cache'}",
        f"callbacks.curriculum.stages={stages}",
    ]
    said = ranks(2, [*words, "trainer.max_epochs=2"], tmp_path / "run")
    table = epochs(tmp_path / "run").dropna(subset=["sampling/images"])
    for epoch, (batch, share) in enumerate([(2, 0.5), (3, 0.3)]):
        images = table["sampling/images"][epoch]
        assert images > 20 and images % (2 * batch) == 0
        assert abs(table["sampling/positive_fraction"][epoch] - share) * images <= 1
    history = json.loads((tmp_path / "run/stages.json").read_text())
    assert [stage["first_epoch"] for stage in history] == [0, 1] and said.count("page:") == 1
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "stage0.ckpt",
        "stage1.ckpt",
    }
