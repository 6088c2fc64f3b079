"""Tests of the command line: menu, experiments, repeatability, resuming and folds."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from callbacks.graceful_shutdown import GracefulShutdown
from datamodules.phantoms.brain_tumor import draw_slice
from tests.conftest import SMALL, SMALL_PNX, folder_hash

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))


def test_help_is_a_menu_and_imports_nothing_heavy():
    code = (
        "import sys, run; sys.argv = ['run.py', '--help']; run.main(); print([m for m in ('torch',"
        " 'hydra', 'lightning') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in EXPERIMENTS:
        assert re.search(rf"^  {name} +\S+", said, re.M), f"{name} has no line in the menu"
    assert said.rstrip().endswith("[]")


def test_the_demo_leaves_a_page(cli, tmp_path):
    small = [
        "datamodule.phantom.train=16",
        "datamodule.phantom.valid=6",
        "datamodule.phantom.test=22",
        "trainer.max_epochs=1",
    ]
    code, said = cli(*small, "trainer.enable_progress_bar=false")
    assert code == 0, said
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    cases = page.count("<figure data-case=")
    assert (
        "Phantom data" in page
        and 12 <= cases <= 22
        and page.count("<img") == 4 * cases
        and page.count("<svg") == 4  # one epoch gives no learning curve
    )


TABLE = [
    *(word for word in SMALL if not word.startswith("datamodule.")),
    "datamodule=table",
    "module.classes=[lesion]",
]


def write_phantom(folder: Path, number: int) -> str:
    """Draws one slice and its mask into a folder; gives the cells image,mask of a manifest."""
    drawn = draw_slice(np.random.default_rng(number), 64)
    cv2.imwrite(str(folder / f"{number}.png"), drawn.image)
    cv2.imwrite(str(folder / f"{number}m.png"), drawn.mask * 255)
    return f"{number}.png,{number}m.png"


def fit(cli, folder: Path, root: Path, *words: str) -> pd.DataFrame:
    code, said = cli(*SMALL, f"datamodule.root={root}", *words, folder=folder)
    assert code == 0, said
    return pd.read_csv(folder / "metrics.csv")


def test_a_run_leaves_what_the_readme_says_and_repeats_exactly(cli, export, tmp_path):
    before = folder_hash(export)
    first = fit(cli, tmp_path / "a", export, "trainer.max_epochs=2")
    for name in (
        "checkpoints/best.ckpt checkpoints/last.ckpt evidence/val.npz evidence/test.npz "
        "report.json report.html config.yaml"
    ).split():
        assert (tmp_path / "a" / name).is_file(), name
    assert folder_hash(export) == before
    report = json.loads((tmp_path / "a/report.json").read_text())
    dice = report["scores"]["test"]["tumor"]["dice"]
    assert first["test/dice"].dropna().iloc[0] == pytest.approx(dice["value"], abs=1e-6)
    assert dice["low"] <= dice["value"] <= dice["high"] and dice["trivial"]["all empty"] == 0.0
    assert report["data"]["cleaning"]["exact duplicate annotation: dropped"]["count"] > 0
    html = (tmp_path / "a/report.html").read_text()
    assert (
        "http://"
        not in re.sub(r"http://www\.w3\.org\S*|http://purl\S*|http://creativecommons\S*", "", html)
        and "<script src" not in html
    )

    fit(cli, tmp_path / "b", export, "trainer.max_epochs=2", "datamodule.num_workers=2")
    assert (tmp_path / "a/metrics.csv").read_bytes() == (tmp_path / "b/metrics.csv").read_bytes()

    again = fit(cli, tmp_path / "c", export, "do=[test]", f"ckpt_path={tmp_path / 'a'}")
    assert again["test/dice"].iloc[0] == first["test/dice"].dropna().iloc[0]
    stored = json.loads((tmp_path / "c/report.json").read_text())["normalization"]
    assert (
        stored == report["normalization"]
        and stored["mean"] == pytest.approx([0.449])
        and stored["source"] == "module.scratch_normalization"
    )


@pytest.mark.slow
def test_given_numbers_that_the_checkpoint_would_replace_end_the_run(cli, export, tmp_path):
    fit(
        cli,
        tmp_path / "a",
        export,
        "trainer.max_epochs=1",
        "do=[fit]",
        "module.mean=[0.25]",
        "module.std=[0.125]",
    )
    words = [*SMALL, f"datamodule.root={export}", "module.mean=[0.449]", "module.std=[0.226]"]
    for more in (
        ["do=[test]", "ckpt_path="],
        ["do=[fit]", "init_from="],
        ["do=[fit]", "ckpt_path="],
    ):
        code, said = cli(*words, more[0], f"{more[1]}{tmp_path / 'a'}", folder=tmp_path / "b")
        assert code == 2 and said.strip().endswith(
            "was trained with module.mean=[0.25] module.std=[0.125], but this run has"
            " module.mean=[0.449] module.std=[0.226]; set module.mean=[0.25] module.std=[0.125]"
        ), said
    auto = ["module.mean=auto", "module.std=auto"]  # takes the checkpoint's
    fit(cli, tmp_path / "c", export, "do=[test]", f"ckpt_path={tmp_path / 'a'}", *auto)
    stored = json.loads((tmp_path / "c/report.json").read_text())["normalization"]
    assert stored == {
        "mean": [0.25],
        "std": [0.125],
        "gamma": 1.0,
        "source": "stored in the checkpoint",
    }


def test_resuming_gives_what_an_uninterrupted_run_gives(cli, export, tmp_path):
    words = [
        "do=[fit]",
        "module.scheduler.patience=0",
        "module.scheduler.factor=0.3",
        "module.optimizer.lr=1e-2",
    ]  # bad epochs occur
    whole = fit(cli, tmp_path / "whole", export, *words, "trainer.max_epochs=5")
    fit(cli, tmp_path / "part", export, *words, "trainer.max_epochs=3")
    assert torch.load(tmp_path / "part/checkpoints/last.ckpt", weights_only=True)["epoch"] == 2
    rest = fit(
        cli,
        tmp_path / "rest",
        export,
        *words,
        "trainer.max_epochs=5",
        f"ckpt_path={tmp_path / 'part'}",
    )
    pd.testing.assert_frame_equal(whole, rest, check_exact=True)
    evaluated_split = fit(
        cli, tmp_path / "part", export, "do=[test]", f"ckpt_path={tmp_path / 'part'}"
    )  # in its own folder, whose curves stay
    assert (
        sorted(evaluated_split.epoch[evaluated_split["train/loss"].notna()]) == [0, 1, 2]
        and evaluated_split["test/dice"].notna().sum() == 1
    )
    best = [
        torch.load(tmp_path / name / "checkpoints/best.ckpt", weights_only=True)
        for name in ("whole", "rest")
    ]
    assert best[0]["epoch"] == best[1]["epoch"]
    assert all(
        torch.equal(value, best[1]["state_dict"][name])
        for name, value in best[0]["state_dict"].items()
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [
        pytest.param(signal.SIGINT, ["module/scheduler=plateau"], marks=pytest.mark.slow),
        (signal.SIGTERM, ["module/scheduler=warmup_cosine", "datamodule.num_workers=1"]),
    ],
)
def test_a_signal_in_the_middle_of_an_epoch_saves_that_step_and_goes_on_exactly_there(
    number, words, cli, export, steps, tmp_path, monkeypatch
):
    words = [*words, "do=[fit]", "trainer.max_epochs=2"]
    whole = fit(cli, tmp_path / "whole", export, *words)
    own = GracefulShutdown.on_train_batch_end

    def press(self, trainer, *rest):
        if trainer.global_step == 9:  # 6 batches an epoch: the third of the second
            os.kill(os.getpid(), number)
        own(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(GracefulShutdown, "on_train_batch_end", press)
        code, said = cli(*SMALL, f"datamodule.root={export}", *words, folder=tmp_path / "cut")
    assert code == 130 and "stopped after step 9;" in said and "ckpt_path=" in said
    last = tmp_path / "cut/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 9
    steps.clear()
    rest = fit(
        cli, tmp_path / "cut", export, *words, f"ckpt_path={tmp_path / 'cut/checkpoints/last.ckpt'}"
    )
    assert steps == [3, 4, 5]  # repeating the epoch would give the same weights
    pd.testing.assert_frame_equal(whole, rest, check_exact=True)
    weights = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "cut")
    ]
    assert [
        name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])
    ] == []


@pytest.mark.slow
def test_init_from_takes_the_weights_alone(cli, export, tmp_path):
    fit(cli, tmp_path / "a", export, "do=[fit]", "trainer.max_epochs=1")
    table = fit(
        cli,
        tmp_path / "b",
        export,
        "do=[fit]",
        "trainer.max_epochs=1",
        "module.optimizer.lr=0",
        f"init_from={tmp_path / 'a'}",
    )
    assert set(table.epoch) == {0}
    first = torch.load(tmp_path / "a/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    second = torch.load(tmp_path / "b/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    name = "net.encoder.conv1.weight"
    assert torch.equal(first[name], second[name])


@pytest.mark.slow
def test_folds_make_one_out_of_fold_report(cli, export, tmp_path):
    code, said = cli(*SMALL, f"datamodule.root={export}", "folds=2", "trainer.max_epochs=1")
    assert code == 0, said
    report = json.loads((tmp_path / "run/report.json").read_text())
    parts = [
        json.loads((tmp_path / f"run/fold{k}/report.json").read_text())["data"]["splits"]
        for k in (0, 1)
    ]
    evaluated_split = report["scores"]["out_of_fold"]["tumor"]["dice"]["n"]
    assert (
        evaluated_split
        == parts[0]["val"]["images"] + parts[1]["val"]["images"]
        == parts[0]["train"]["images"] + parts[0]["val"]["images"]
    )
    assert report["folds_mean"]["val"] == pytest.approx(sum(f["val"] for f in report["folds"]) / 2)


AVERAGES = [
    "{_target_: callbacks.weight_averaging.EMAWeightAverage, decay: 0.5}",
    "{_target_: callbacks.weight_averaging.SWAWeightAverage, start_epoch: 1}",
]


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.slow
def test_averaged_weights_are_saved_with_the_rule_that_was_searched_for_them(
    average, cli, export, tmp_path
):
    words = ["do=[fit,test]", "trainer.max_epochs=3", f"+callbacks.average={average}"]
    table = fit(cli, tmp_path / "a", export, *words)
    again = fit(cli, tmp_path / "b", export, "do=[test]", f"ckpt_path={tmp_path / 'a'}")
    assert again["test/dice"].iloc[0] == table["test/dice"].dropna().iloc[0]


@pytest.mark.slow
def test_a_small_net_overfits_a_few_phantoms(cli, tmp_path):
    lines = ["id,image,mask,split"]
    for i in range(6):
        drawn = write_phantom(tmp_path, i)
        lines += [
            f"{split}{i},{drawn},{split}" for split in ("train", "val", "test")
        ]  # evaluated_split on what it learned from
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    hard = [
        "trainer.max_epochs=120",
        "trainer.check_val_every_n_epoch=120",
        "module.optimizer.lr=3e-3",
        "module/scheduler=warmup_cosine",
        "datamodule.augmentation=null",
    ]
    code, said = cli(
        *TABLE,
        f"datamodule.root={tmp_path}",
        "datamodule.batch_size=6",
        "datamodule.allow_leaks=true",
        "do=[fit]",
        *hard,
    )
    assert code == 0, said
    assert (
        pd.read_csv(tmp_path / "run/metrics.csv")["val/dice"].dropna().iloc[-1] > 0.75
    )  # 64 px, lesions of some 20 pixels


@pytest.mark.slow
def test_tensorboard_is_a_choice(cli, export, tmp_path):
    fit(cli, tmp_path / "run", export, "do=[fit]", "trainer.max_epochs=1", "logger=tensorboard")
    assert list((tmp_path / "run/tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.slow
def test_any_table_is_a_data_set(cli, tmp_path):
    lines = ["id,image,mask,group"] + [
        f"c{i},{write_phantom(tmp_path, i)},p{i // 2}" for i in range(30)
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    code, said = cli(*TABLE, f"datamodule.root={tmp_path}", "trainer.max_epochs=1")
    assert code == 0, said
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert (
        report["data"]["group_is"] == "patient"
        and sum(s["images"] for s in report["data"]["splits"].values()) == 30
    )


PNX_TABLE = [
    "datamodule=table",
    "datamodule.manifest_name=meta.json",
    "do=[fit]",
    "trainer.limit_train_batches=1",
]
ONE_STAGE = [
    "callbacks.curriculum.stages=[{epochs:1,lr:1e-3}]",
    "trainer.max_epochs=1",
    "datamodule.batch_size=4",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "words"), [("export", []), ("crop", ["datamodule.mask_column=cropped_mask"])]
)
def test_what_is_exported_or_cropped_trains_as_a_table(step, words, cli, thorax, tmp_path):
    before = folder_hash(thorax)
    code, said = cli(
        "experiment=curriculum_pnx",
        f"datamodule.root={thorax}",
        f"do=[{step}]",
        folder=tmp_path / step,
    )
    written = tmp_path / step / "prepared"
    assert code == 0 and (written / "meta.json").is_file() and folder_hash(thorax) == before, said
    code, said = cli(
        *SMALL_PNX,
        *ONE_STAGE,
        *PNX_TABLE,
        *words,
        f"datamodule.root={written}",
        folder=tmp_path / "fit",
    )
    assert code == 0, said


def test_validate_reads_everything_and_changes_nothing(cli, thorax):
    before = folder_hash(thorax)
    code, said = cli("experiment=curriculum_pnx", f"datamodule.root={thorax}", "do=[inspect]")
    assert code == 0 and folder_hash(thorax) == before, said


def test_a_run_that_was_stopped_in_its_last_step_is_completed_by_the_command_that_it_names(
    cli, export, tmp_path, monkeypatch
):
    own = GracefulShutdown.on_train_batch_end

    def press(self, trainer, *rest):
        if trainer.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        own(self, trainer, *rest)

    words = [*SMALL, f"datamodule.root={export}", "trainer.max_epochs=1"]
    with monkeypatch.context() as patch:
        patch.setattr(GracefulShutdown, "on_train_batch_end", press)
        code, said = cli(*words, folder=tmp_path / "cut")
    last = tmp_path / "cut/checkpoints/last.ckpt"
    named = (
        f"stopped when training was complete; continue with the same command and ckpt_path={last}"
    )
    assert code == 130 and named in said
    assert named in (tmp_path / "cut/run.log").read_text()
    code, said = cli(*words, f"ckpt_path={last}", folder=tmp_path / "rest")
    assert code == 0, said
    report = json.loads((tmp_path / "rest/report.json").read_text())
    assert set(report["scores"]) == {"val", "test"}
    rows = pd.read_csv(tmp_path / "rest/metrics.csv")
    assert rows["train/loss"].notna().sum() == 1 and rows["test/dice"].notna().sum() == 1
