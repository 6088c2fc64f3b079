"""Tests of resuming with changed settings.

They are refused by name or really applied; costs accumulate over resumed fits.
"""

import json
import math
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from callbacks.resource_monitor import ResourceMonitor
from lightning_modules.base import SupervisedModule
from lightning_modules.optim import apply_hyperparameters
from tests.conftest import SMALL
from tests.factories.finished_run import finish_run

EPOCHS = ["do=[fit]", "datamodule.batches_per_epoch=3"]


def fit(cli, folder: Path, root: Path, *words: str) -> str:
    code, said = cli(*SMALL, f"datamodule.root={root}", *EPOCHS, *words, folder=folder)
    assert code == 0, said
    return said


SAME = ["module.optimizer.lr=1e-2", "module.scheduler.patience=2"]


@pytest.fixture(scope="module")
def started(export, tmp_path_factory) -> Path:
    """A run of two epochs at a learning rate of 1e-2, whose plateau may last for two epochs."""
    words = [*SMALL, f"datamodule.root={export}", *EPOCHS, *SAME, "trainer.max_epochs=2"]
    return finish_run(words, tmp_path_factory.mktemp("started") / "run")


CHANGED = {
    "another rate": (
        ["module.optimizer.lr=3e-3", SAME[1]],
        (
            "module.optimizer.lr=0.01, but this run has module.optimizer.lr=0.003; set"
            " module.optimizer.lr=0.01"
        ),
    ),
    "an override was dropped": (
        [SAME[1]],
        "module.optimizer.lr=0.01, but this run has module.optimizer.lr=0.001",
    ),
    "a schedule's patience": (
        [SAME[0]],
        "module.scheduler.patience=2, but this run has module.scheduler.patience=5",
    ),
    "early stopping": (
        [
            *SAME,
            "callbacks=[checkpoint,early_stopping,threshold_search/segmentation]",
            "callbacks.early_stopping.patience=7",
        ],
        (
            "callbacks.early_stopping.monitor=null, callbacks.early_stopping.mode=null,"
            " callbacks.early_stopping.patience=null, but this run has"
        ),
    ),
    "weight decay": (
        [*SAME, "module.optimizer.weight_decay=0.1"],
        "module.optimizer.weight_decay=0.0, but this run has module.optimizer.weight_decay=0.1",
    ),
    "a loss": (
        [*SAME, "module.loss.weights.dice=0.9"],
        "module.loss.weights.dice=0.5, but this run has module.loss.weights.dice=0.9",
    ),
    "a batch": (
        [*SAME, "datamodule.batch_size=2"],
        (
            "images a step=4, but this run has images a step=2; set datamodule.batch_size and"
            " trainer.devices as they were"
        ),
    ),
    "an augmentation": (
        [*SAME, "datamodule.augmentation.transforms.rotate.degrees=5"],
        (
            "datamodule.augmentation.transforms.rotate.degrees=15, but this run has"
            " datamodule.augmentation.transforms.rotate.degrees=5; set"
            " datamodule.augmentation.transforms.rotate.degrees=15"
        ),
    ),
    "a transform less": (
        [*SAME, "datamodule.augmentation.transforms.blur=null"],
        "datamodule.augmentation.transforms.blur._target_=datamodules.augmentation.GaussianBlur",
    ),
    "the split": ([*SAME, "seed=1"], "datamodule.seed=0, but this run has datamodule.seed=1"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_other_settings_are_refused_by_name(case, cli, steps, export, started, tmp_path):
    words, sentence = CHANGED[case]
    steps.clear()
    code, said = cli(
        *SMALL,
        f"datamodule.root={export}",
        *EPOCHS,
        *words,
        "trainer.max_epochs=4",
        f"ckpt_path={started}",
        folder=tmp_path / "b",
    )
    assert code == 2 and not steps and "changed_settings=apply" in said
    assert f"{started}/checkpoints/last.ckpt was trained with {sentence}" in said


@pytest.mark.slow
def test_more_epochs_are_trained_where_the_schedule_does_not_depend_on_them(
    cli, export, started, tmp_path
):
    lawful = ["trainer.max_epochs=3", "datamodule.num_workers=1", "datamodule.eval_batch_size=2"]
    fit(cli, tmp_path / "b", export, *SAME, *lawful, f"ckpt_path={started}")


@pytest.mark.slow
def test_a_schedule_that_spans_the_fit_must_span_the_same_steps(cli, steps, export, tmp_path):
    words = [*SMALL, f"datamodule.root={export}", *EPOCHS, "module/scheduler=warmup_cosine"]
    code, said = cli(*words, "trainer.max_epochs=2", folder=tmp_path / "a")
    assert code == 0, said
    steps.clear()
    code, said = cli(
        *words, "trainer.max_epochs=4", f"ckpt_path={tmp_path / 'a'}", folder=tmp_path / "b"
    )
    assert (
        code == 2
        and not steps
        and "steps of the schedule=6, but this run has steps of the schedule=12; set trainer."
        in said
    ), said
    code, said = cli(
        *words, "trainer.max_epochs=2", f"ckpt_path={tmp_path / 'a'}", folder=tmp_path / "c"
    )  # nothing is left to train
    assert code == 0 and not steps, said


def _rates(monkeypatch) -> list[float]:
    """The learning rate of every step that is taken."""
    taken: list[float] = []
    own = SupervisedModule.training_step
    monkeypatch.setattr(
        SupervisedModule,
        "training_step",
        lambda self, batch, i: (
            taken.append(self.optimizers(use_pl_optimizer=False).param_groups[0]["lr"])
            or own(self, batch, i)
        ),
    )
    return taken


def test_new_settings_are_really_applied_where_that_is_asked_for(
    cli, export, started, tmp_path, monkeypatch
):
    rates = _rates(monkeypatch)
    words = [
        "module.optimizer.lr=3e-3",
        "module.optimizer.weight_decay=0.05",
        "module.scheduler.patience=4",
        "trainer.max_epochs=3",
    ]
    fit(cli, tmp_path / "b", export, *words, f"ckpt_path={started}", "changed_settings=apply")
    assert rates == [3e-3] * 3
    state = torch.load(tmp_path / "b/checkpoints/last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.05
    assert (
        state["lr_schedulers"][0]["patience"] == 4 and state["lr_schedulers"][0]["last_epoch"] == 3
    )  # how far it has come stays
    assert state["settings"]["module.optimizer.lr"] == 3e-3


@pytest.mark.slow
def test_a_cosine_goes_on_at_the_new_rate_and_length(cli, export, tmp_path, monkeypatch):
    """The rate follows the cosine computed by hand, after one step of warm-up.

    Step s of 12 at the rate r has r * (.01 + .99 * (1 + cos(pi * (s - 1) / 11)) / 2).
    """
    words = [*SMALL, f"datamodule.root={export}", *EPOCHS, "module/scheduler=warmup_cosine"]
    code, said = cli(
        *words, "trainer.max_epochs=2", "module.optimizer.lr=1e-2", folder=tmp_path / "a"
    )
    assert code == 0, said
    rates = _rates(monkeypatch)
    more = ["trainer.max_epochs=4", "module.optimizer.lr=2e-3", "changed_settings=apply"]
    code, said = cli(*words, *more, f"ckpt_path={tmp_path / 'a'}", folder=tmp_path / "b")
    assert code == 0, said
    assert rates[1:] == pytest.approx(
        [2e-3 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (s - 1) / 11))) for s in range(7, 12)]
    )


def test_what_does_not_fit_the_stored_state_cannot_be_applied(
    cli, steps, export, started, tmp_path
):
    words = [
        "module.scheduler.patience=2",
        "module.optimizer._target_=torch.optim.SGD",
        "~module.optimizer.weight_decay",
        "module.optimizer.lr=1e-2",
    ]
    steps.clear()
    code, said = cli(
        *SMALL,
        f"datamodule.root={export}",
        *EPOCHS,
        *words,
        f"ckpt_path={started}",
        "changed_settings=apply",
        folder=tmp_path / "b",
    )
    assert (
        code == 2
        and not steps
        and "module.optimizer._target_=torch.optim.AdamW" in said
        and "init_from=" in said
    ), said


@pytest.mark.slow
def test_patience_of_early_stopping_is_this_runs_own(cli, export, tmp_path):
    callbacks = "callbacks=[checkpoint,early_stopping,threshold_search/segmentation,nonfinite_loss]"
    words = [*SMALL, f"datamodule.root={export}", *EPOCHS, callbacks]
    code, said = cli(
        *words, "trainer.max_epochs=1", "callbacks.early_stopping.patience=9", folder=tmp_path / "a"
    )
    assert code == 0, said
    more = ["trainer.max_epochs=2", "callbacks.early_stopping.patience=4", "changed_settings=apply"]
    code, said = cli(*words, *more, f"ckpt_path={tmp_path / 'a'}", folder=tmp_path / "b")
    assert code == 0, said
    callback = torch.load(tmp_path / "b/checkpoints/last.ckpt", weights_only=True)["callbacks"]
    assert [
        state["patience"]
        for name, state in callback.items()
        if name.startswith("ResumableEarlyStopping")
    ] == [4]


@pytest.mark.slow
def test_time_and_counters_go_on_from_the_checkpoint_in_the_middle_of_an_epoch(
    cli, export, tmp_path, monkeypatch
):
    from callbacks.graceful_shutdown import GracefulShutdown

    own = GracefulShutdown.on_train_batch_end

    def press(self, trainer, *rest):
        if trainer.global_step == 5:  # the second of the second epoch, of three steps
            os.kill(os.getpid(), signal.SIGINT)
        own(self, trainer, *rest)

    words = [
        *SMALL,
        f"datamodule.root={export}",
        "datamodule.batches_per_epoch=3",
        "trainer.max_epochs=3",
    ]
    with monkeypatch.context() as patch:
        patch.setattr(GracefulShutdown, "on_train_batch_end", press)
        code, said = cli(*words, folder=tmp_path / "cut")
    assert code == 130, said
    stored = torch.load(tmp_path / "cut/checkpoints/last.ckpt", weights_only=True)["callbacks"][
        "ResourceMonitor"
    ]
    assert (
        stored["images"] == 12
        and stored["epoch_images"] == 8
        and 0 < stored["epoch_seconds"] < stored["fit_seconds"] < 600
    )
    code, said = cli(*words, f"ckpt_path={tmp_path / 'cut'}", folder=tmp_path / "rest")
    assert code == 0, said
    cost = json.loads((tmp_path / "rest/report.json").read_text())["resources"]
    assert cost["images_trained"] == 36  # 3 epochs of 3 steps of 4 images, in two commands
    assert (
        stored["fit_seconds"] < cost["fit_seconds"] < 600
        and stored["epoch_seconds"] < cost["train_seconds"] < cost["fit_seconds"]
    )
    code, said = cli(
        *words, "do=[test]", f"ckpt_path={tmp_path / 'rest'}", folder=tmp_path / "test"
    )
    assert (
        code == 0 and json.loads((tmp_path / "test/report.json").read_text())["resources"] == {}
    )  # a test trains nothing


def test_costs_are_counted_on_by_hand(monkeypatch):
    """Costs of an unfinished epoch are continued after a resume.

    The first command takes 10 s and 4 images, of which 6 s and 2 images are of an epoch that is not
    over; the second takes 3 s more of it.
    """
    first = ResourceMonitor()
    first._images, first._train_seconds, first._rates = 2, 4.0, [0.5]
    first._epoch_images, first._epoch_seconds, first._fit_seconds = 2, 6.0, 11.0
    state = json.loads(json.dumps(first.state_dict()))
    second = ResourceMonitor()
    second.setup(None, None, "fit")
    second.load_state_dict(state)
    clock = iter([100.0, 100.0, 103.0, 104.0])
    monkeypatch.setattr("callbacks.resource_monitor.time.perf_counter", lambda: next(clock))
    second._fit_start = clock.__next__()
    second.on_train_start(None, None)
    from types import SimpleNamespace

    second.on_train_batch_end(
        SimpleNamespace(world_size=1, is_last_batch=True), None, None, {"id": ["a"]}, 2
    )
    second.on_fit_end(None, None)
    cost = second.as_dict()
    assert (
        cost["images_trained"] == 2 + 3
        and cost["train_seconds"] == 4.0 + 9.0
        and cost["fit_seconds"] == 11.0 + 4.0
    )
    assert second._rates == [0.5, 3 / 9.0]


def contents(folder):
    """What the files of a run hold, but for its log, its lock and its checkpoints."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in [*folder.iterdir(), *(folder / ".hydra").iterdir()]
        if path.is_file() and path.suffix != ".log" and not path.name.startswith(".run")
    }


def test_a_refused_fit_changes_nothing_of_the_finished_run(cli, steps, export, started):
    before = contents(started)
    assert ".hydra/overrides.yaml" in before
    steps.clear()
    for more in (
        ["trainer.max_epochs=4"],
        ["trainer.max_epochs=1"],
    ):  # also where no epoch would be left to train
        words = [*EPOCHS, "module.optimizer.lr=0.5", SAME[1], "resume=auto", *more]
        code, said = cli(*SMALL, f"datamodule.root={export}", *words, folder=started)
        assert (
            code == 2
            and not steps
            and "module.optimizer.lr=0.01, but this run has module.optimizer.lr=0.5" in said
        ), said
        assert contents(started) == before


def test_a_missing_last_checkpoint_does_not_start_the_training_again(
    cli, steps, export, started, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(started, run)
    (run / "checkpoints/last.ckpt").unlink()
    before = contents(run), (run / "checkpoints/best.ckpt").read_bytes()
    steps.clear()
    words = [*SMALL, f"datamodule.root={export}", *EPOCHS, "resume=auto"]
    code, said = cli(*words, folder=run)
    assert code == 2 and not steps and "last.ckpt is missing, and a new training would" in said, (
        said
    )
    assert f"ckpt_path={run}/checkpoints/best.ckpt (without resume=auto)" in said
    assert (contents(run), (run / "checkpoints/best.ckpt").read_bytes()) == before


def test_a_checkpoint_that_records_no_settings_is_not_gone_on_with(
    cli, steps, export, started, tmp_path
):
    checkpoint = torch.load(started / "checkpoints/last.ckpt", weights_only=True)
    del checkpoint["settings"]
    path = tmp_path / "old.ckpt"
    torch.save(checkpoint, path)
    steps.clear()
    code, said = cli(
        *SMALL,
        f"datamodule.root={export}",
        *EPOCHS,
        *SAME,
        "trainer.max_epochs=4",
        f"ckpt_path={path}",
        folder=tmp_path / "b",
    )
    assert (
        code == 2 and not steps and f"{path} does not record the settings of its training" in said
    ), said


def test_a_plateau_that_has_lowered_the_rate_keeps_it_low():
    """A rate that fell from 1e-3 to 1e-5 becomes 2e-5 at twice the rate, with the new factor."""

    def pair(lr, factor, decay):
        optimizer = torch.optim.AdamW(
            [torch.nn.Parameter(torch.zeros(1))], lr=lr, weight_decay=decay
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=factor)
            },
        }

    live, fresh = pair(1e-3, 0.1, 0.0), pair(2e-3, 0.5, 0.1)
    live["optimizer"].param_groups[0]["lr"] = 1e-5
    apply_hyperparameters(fresh, live["optimizer"], live["lr_scheduler"]["scheduler"], lr_ratio=0.5)
    group = live["optimizer"].param_groups[0]
    assert (
        group["lr"] == pytest.approx(2e-5)
        and group["weight_decay"] == 0.1
        and live["lr_scheduler"]["scheduler"].factor == 0.5
    )
