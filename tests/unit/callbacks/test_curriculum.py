"""Tests of the curriculum: its stages' batches, rates and starting weights, and exact resuming."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from callbacks.curriculum import Curriculum, CurriculumState
from callbacks.curriculum_stage import StageConfig, check_total_epochs
from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from datamodules.sampling.config import EpochConfig
from lightning_modules.base import SupervisedModule
from tests.conftest import SMALL_PNX, refused


def staged(stages) -> list[str]:
    """The words that ask for these stages."""
    words = json.dumps(stages).replace('"', "").replace(" ", "")
    return [
        f"callbacks.curriculum.stages={words}",
        f"trainer.max_epochs={sum(stage['epochs'] for stage in stages)}",
    ]


def fit(cli, folder, root, stages, *words) -> pd.DataFrame:
    code, said = cli(*SMALL_PNX, f"datamodule.root={root}", *staged(stages), *words, folder=folder)
    assert code == 0, said
    return pd.read_csv(folder / "metrics.csv")


THREE = [
    {"epochs": 2, "lr": 1e-3, "batch_size": 4, "positive_fraction": 0.5},
    {"epochs": 1, "lr": 5e-4, "batch_size": 8, "positive_fraction": 0.7, "image_size": 64},
    {"epochs": 2, "lr": 1e-4, "batch_size": 6},
]


class Watch:
    """Takes down every training step of a fit."""

    def __init__(self, monkeypatch):
        self.steps, own = [], SupervisedModule.training_step

        def step(module, batch, batch_idx):
            optimizer = module.trainer.optimizers[0]
            weights = module.net.encoder.conv1.weight.detach().clone() if batch_idx == 0 else None
            schedule = module.trainer.lr_scheduler_configs[0].scheduler
            rates = [group["lr"] for group in optimizer.param_groups]
            self.steps.append(
                (
                    module.trainer.current_epoch,
                    len(batch["id"]),
                    batch["image"].shape[-1],
                    rates,
                    schedule.total_steps,
                    weights,
                )
            )
            self.pool = module.trainer.datamodule.pool
            return own(module, batch, batch_idx)

        monkeypatch.setattr(SupervisedModule, "training_step", step)

    def of(self, epoch):
        return [step[1:] for step in self.steps if step[0] == epoch]


def test_no_stage_is_cut_short_or_stretched_and_each_starts_from_the_best_before_it(
    cli, thorax, tmp_path, monkeypatch
):
    watch = Watch(monkeypatch)
    table = fit(cli, tmp_path / "run", thorax, THREE, "do=[fit]")
    positive, negative = int(watch.pool.positive.sum()), int((~watch.pool.positive).sum())
    drawn = table.dropna(subset=["sampling/images"]).set_index("epoch")
    lengths = []
    for epoch, stage in enumerate([THREE[0], THREE[0], THREE[1], THREE[2], THREE[2]]):
        share = stage.get("positive_fraction")
        images = (
            positive + negative
            if share is None
            else int(min(positive / share, negative / (1 - share)) + 1e-9)
        )
        lengths.append(images // stage["batch_size"])
        steps = watch.of(epoch)
        assert len(steps) == lengths[-1]
        assert {step[:2] for step in steps} == {(stage["batch_size"], stage.get("image_size", 32))}
        assert drawn["sampling/images"][epoch] == lengths[-1] * stage["batch_size"]
        if share is not None:
            assert (
                abs(drawn["sampling/positive_fraction"][epoch] - share)
                * drawn["sampling/images"][epoch]
                <= 1
            )
    for stage, epochs in zip(
        THREE, ([0, 1], [2], [3, 4]), strict=True
    ):  # one cycle a stage, a step a batch, the encoder at half the rate
        assert {step[3] for epoch in epochs for step in watch.of(epoch)} == {
            sum(lengths[epoch] for epoch in epochs)
        }
        rates = np.array([step[2] for epoch in epochs for step in watch.of(epoch)])
        assert (
            rates[0, 1] == pytest.approx(stage["lr"] * 0.04)
            and 0.75 * stage["lr"] < rates[:, 1].max() <= stage["lr"]
        )
        assert rates[:, 0] == pytest.approx(rates[:, 1] / 2) and rates[-1, 1] < stage["lr"] / 10
    history = json.loads((tmp_path / "run/stages.json").read_text())
    assert [stage["first_epoch"] for stage in history] == [0, 2, 3]
    for number, first in ((0, 2), (1, 3)):
        best = torch.load(tmp_path / f"run/checkpoints/stage{number}.ckpt", weights_only=True)
        assert torch.equal(best["state_dict"]["net.encoder.conv1.weight"], watch.of(first)[0][-1])
        assert best["epoch"] == history[number]["best"]["epoch"]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_in_the_second_stage_goes_on_as_if_nothing_had_happened(
    workers, cli, thorax, tmp_path, monkeypatch
):
    stages = [
        {"epochs": 2, "lr": 1e-3, "batch_size": 4, "positive_fraction": 0.5},
        {"epochs": 3, "lr": 5e-4, "batch_size": 8, "positive_fraction": 0.4},
        {"epochs": 1, "lr": 1e-4},
    ]
    words = ["do=[fit]", f"datamodule.num_workers={workers}"]
    whole = fit(cli, tmp_path / "whole", thorax, stages, *words)
    own, calls = SupervisedModule.training_step, []

    def killed(self, batch, batch_idx):
        if self.trainer.current_epoch == 3 and batch_idx == 2:
            raise KeyboardInterrupt  # nothing is saved any more
        calls.append(batch_idx)
        return own(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(SupervisedModule, "training_step", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            cli(
                *SMALL_PNX,
                f"datamodule.root={thorax}",
                *staged(stages),
                *words,
                folder=tmp_path / "cut",
            )
            raise SystemExit  # Lightning turns it into its own end
    assert torch.load(tmp_path / "cut/checkpoints/last.ckpt", weights_only=True)["epoch"] == 2
    rest = fit(cli, tmp_path / "rest", thorax, stages, *words, f"ckpt_path={tmp_path / 'cut'}")
    pd.testing.assert_frame_equal(whole, rest, check_exact=True)
    assert json.loads((tmp_path / "rest/stages.json").read_text()) == json.loads(
        (tmp_path / "whole/stages.json").read_text()
    )
    last = [
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "rest")
    ]
    assert all(torch.equal(value, last[1][name]) for name, value in last[0].items())


@pytest.mark.slow
def test_resuming_right_between_two_stages_enters_the_next(cli, thorax, tmp_path):
    stages = [
        {"epochs": 2, "lr": 1e-3, "positive_fraction": 0.5},
        {"epochs": 2, "lr": 5e-4, "batch_size": 8, "freeze_encoder": True},
    ]
    whole = fit(cli, tmp_path / "whole", thorax, stages, "do=[fit]")
    with pytest.MonkeyPatch.context() as patch:

        def stop(self, trainer, module):
            raise UserError("cut here")

        patch.setattr(Curriculum, "_enter_stage", stop)
        code, said = cli(
            *SMALL_PNX,
            f"datamodule.root={thorax}",
            *staged(stages),
            "do=[fit]",
            folder=tmp_path / "cut",
        )
    assert code == 2 and "cut here" in said
    rest = fit(cli, tmp_path / "rest", thorax, stages, "do=[fit]", f"ckpt_path={tmp_path / 'cut'}")
    pd.testing.assert_frame_equal(
        whole[whole.epoch >= 2].reset_index(drop=True), rest[rest.epoch >= 2].reset_index(drop=True)
    )
    frozen = [
        torch.load(tmp_path / "rest/checkpoints" / name, weights_only=True)["state_dict"]
        for name in ("stage0.ckpt", "last.ckpt")
    ]
    same = [
        torch.equal(frozen[0][name], frozen[1][name])
        for name in frozen[0]
        if name.startswith("net.encoder.")
    ]
    assert all(same) and not torch.equal(
        frozen[0]["net.segmentation_head.0.weight"], frozen[1]["net.segmentation_head.0.weight"]
    )


def test_a_rate_may_fall_from_epoch_to_epoch(cli, thorax, tmp_path):
    table = fit(
        cli,
        tmp_path / "run",
        thorax,
        [{"epochs": 4, "positive_fraction": {"from": 0.8, "to": 0.2}}],
        "do=[fit]",
        "module/scheduler=plateau",
    )
    drawn = table.dropna(subset=["sampling/images"])
    assert (
        np.abs(drawn["sampling/positive_fraction"] - [0.8, 0.6, 0.4, 0.2])
        * drawn["sampling/images"]
        <= 1
    ).all()
    assert (
        drawn["sampling/images"].is_monotonic_increasing and drawn["sampling/images"].nunique() >= 3
    )


@pytest.mark.slow
def test_patience_goes_on_early_and_ends_the_last_stage_for_good(
    cli, thorax, tmp_path, monkeypatch, steps
):
    own = CurriculumState.update_best
    monkeypatch.setattr(
        CurriculumState,
        "update_best",
        lambda self, epoch, score, *more: own(self, epoch, 0.5, *more),
    )  # the first is never beaten
    stages = [{"epochs": 5, "lr": 1e-9, "patience": 2}, {"epochs": 5, "lr": 1e-9, "patience": 1}]
    table = fit(cli, tmp_path / "run", thorax, stages, "do=[fit]", "trainer.limit_train_batches=2")
    history = json.loads((tmp_path / "run/stages.json").read_text())
    assert [stage["first_epoch"] for stage in history] == [0, 3] and table["epoch"].max() == 4
    assert (
        history[0]["best"] == {"epoch": 0, "score": 0.5}
        and "val/dice" in history[1]["scores"][0]["metrics"]
    )
    steps.clear()
    code, said = cli(
        *SMALL_PNX,
        f"datamodule.root={thorax}",
        *staged(stages),
        f"ckpt_path={tmp_path / 'run'}",
        folder=tmp_path / "over",
    )
    assert code == 0 and not steps, said  # it was over, so it is only tested


def test_an_epoch_that_was_not_validated_has_no_score(cli, thorax, tmp_path):
    words = ["do=[fit]", "trainer.check_val_every_n_epoch=2", "trainer.limit_train_batches=2"]
    fit(cli, tmp_path / "run", thorax, [{"epochs": 2}, {"epochs": 2}], *words)
    history = json.loads((tmp_path / "run/stages.json").read_text())
    assert [[score["score"] is None for score in stage["scores"]] for stage in history] == [
        [True, False],
        [True, False],
    ]
    assert [stage["best"]["epoch"] for stage in history] == [1, 3]


@pytest.mark.slow
def test_a_frozen_encoder_thaws_with_its_stage(cli, thorax, tmp_path, monkeypatch):
    seen, own = [], SupervisedModule.training_step

    def step(module, batch, batch_idx):
        bn = module.net.encoder.bn1
        seen.append(
            (
                module.trainer.current_epoch,
                bn.training,
                bn.weight.requires_grad,
                module.net.decoder.training,
            )
        )
        return own(module, batch, batch_idx)

    monkeypatch.setattr(SupervisedModule, "training_step", step)
    fit(
        cli,
        tmp_path / "run",
        thorax,
        [{"epochs": 1}, {"epochs": 1, "freeze_encoder": True}, {"epochs": 1}],
        "do=[fit]",
        "trainer.limit_train_batches=2",
    )
    assert {(epoch, *how) for epoch, *how in seen} == {
        (0, True, True, True),
        (1, False, False, True),
        (2, True, True, True),
    }


@pytest.mark.slow
def test_a_changed_later_stage_is_refused_when_it_had_begun(cli, thorax, tmp_path, steps):
    stages = [{"epochs": 1}, {"epochs": 2, "lr": 1e-3}]
    fit(cli, tmp_path / "run", thorax, stages, "do=[fit]", "trainer.limit_train_batches=1")
    steps.clear()
    changed = [stages[0], {"epochs": 3, "lr": 1e-4}]
    code, said = cli(
        *SMALL_PNX,
        f"datamodule.root={thorax}",
        *staged(changed),
        f"ckpt_path={tmp_path / 'run'}",
        folder=tmp_path / "other",
    )
    refused(
        code, said, steps, "belongs to another curriculum: its first 2 stage(s) differ", "init_from"
    )


def test_a_test_of_weights_of_the_first_stage_keeps_the_history_of_all(cli, thorax, tmp_path):
    stages = [{"epochs": 1}, {"epochs": 1, "lr": 1e3}]  # which no network survives
    fit(cli, tmp_path / "run", thorax, stages, "do=[fit,test]")
    history = json.loads((tmp_path / "run/stages.json").read_text())
    best = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == 0 and [stage["first_epoch"] for stage in history] == [0, 1]


@pytest.mark.slow
def test_the_stage_of_the_best_weights_says_at_what_size_they_are_tested(
    cli, thorax, tmp_path, monkeypatch
):
    from datamodules.base import ServingDataModule

    sizes, own = [], ServingDataModule.current_image_size
    monkeypatch.setattr(
        ServingDataModule, "current_image_size", lambda self: sizes.append(own(self)) or sizes[-1]
    )
    stages = [{"epochs": 1, "image_size": 64}]
    fit(cli, tmp_path / "run", thorax, stages)
    assert set(sizes) == {ImageSize(64, 64)}  # though image_size=32
    sizes.clear()
    code, said = cli(
        *SMALL_PNX,
        f"datamodule.root={thorax}",
        *staged(stages),
        "do=[test]",
        f"ckpt_path={tmp_path / 'run'}",
        folder=tmp_path / "again",
    )
    assert code == 0 and ImageSize(64, 64) in sizes, said
    scores = [
        json.loads((tmp_path / name / "report.json").read_text())["scores"]["test"]
        for name in ("run", "again")
    ]
    assert scores[0]["pneumothorax"]["dice"]["value"] == scores[1]["pneumothorax"]["dice"]["value"]


WRONG = {
    "an unknown key": (
        [{"epochs": 1, "learning_rate": 1}],
        [],
        "stages[0].learning_rate is not a known key",
        "the keys are epochs, lr, image_size",
    ),
    "a size no network takes": (
        [{"epochs": 1, "image_size": 50}],
        [],
        "stages[0].image_size=50 is not a multiple of 32",
        "try",
    ),
    "more than the cache keeps": (
        [{"epochs": 1, "image_size": 96}],
        [],
        "image_size=96 is larger than datamodule.cache_size=64",
        "set datamodule.cache_size=96",
    ),
    "epochs that do not add up": (
        [{"epochs": 2}],
        ["trainer.max_epochs=5"],
        "2 = 2 epochs, but trainer.max_epochs=5",
        "set trainer.max_epochs=2",
    ),
    "a stratum that is none": (
        [{"epochs": 1, "strata_weights": {"1_q7": 1}}],
        [],
        "names 1_q7",
        "the strata of train are 0_none, 1_q1",
    ),
    "positives of no weight": (
        [
            {
                "epochs": 1,
                "positive_fraction": 0.5,
                "strata_weights": {"1_q1": 0, "1_q2": 0, "1_q3": 0, "1_q4": 0, "0_none": 1},
            }
        ],
        [],
        "needs positive images, but train has none with a weight above 0",
        "set another fraction",
    ),
    "a share that is none": (
        [{"epochs": 1, "positive_fraction": 70}],
        [],
        "stages[0].positive_fraction=70 is not allowed",
        "from 0 to 1",
    ),
    "half a ramp": (
        [{"epochs": 1, "positive_fraction": {"from": 0.5}}],
        [],
        "positive_fraction={from:0.5} is not allowed",
        "{from: 0.8, to: 0.22}",
    ),
    "a term that the loss lacks": (
        [{"epochs": 1, "loss_weights": {"lovasz": 1}}],
        [],
        "are not those of module.loss",
        "dice, focal, tversky",
    ),
    "a batch of one image": (
        [{"epochs": 1}, {"epochs": 1, "batch_size": 1}],
        ["module.net.encoder_depth=5", "module.net.decoder_channels=[16,8,8,8,8]"],
        "stages[1]: batch_size=1 gives BatchNorm",
        "batch_size of each stage",
    ),
    "no epochs": ([{"epochs": 0}], ["trainer.max_epochs=1"], "stages[0].epochs=0", "1 or more"),
    "early stopping": (
        [{"epochs": 1}],
        [
            "+callbacks.early_stopping={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/dice}"
        ],
        "early_stopping would end",
        "patience",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_curriculum_that_cannot_be_is_refused_before_any_step(case, cli, thorax, tmp_path, steps):
    stages, words, wrong, mend = WRONG[case]
    code, said = cli(
        *SMALL_PNX, f"datamodule.root={thorax}", *staged(stages), *words, folder=tmp_path / "run"
    )
    refused(code, said, steps, wrong, mend)


def test_a_stage_overrides_what_it_names_and_nothing_else():
    base = EpochConfig(256, 8, None, 0.3, {"0_none": 1.0})
    assert StageConfig(epochs=3).epoch_config(base, 0) == base
    assert StageConfig(
        epochs=5, positive_fraction={"from": 0.8, "to": 0.4}, batch_size=2
    ).epoch_config(base, 2) == EpochConfig(256, 2, None, pytest.approx(0.6), {"0_none": 1.0})
    with pytest.raises(UserError, match=r"2 \+ 4 = 6 epochs.*set trainer\.max_epochs=6"):
        check_total_epochs([2, 4], 3)
