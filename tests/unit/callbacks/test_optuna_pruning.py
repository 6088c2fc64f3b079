"""Tests of pruning by the study's pruner, which never receives a report twice after a resume."""

from types import SimpleNamespace

import optuna
import pytest
from optuna.pruners import MedianPruner
from optuna.samplers import RandomSampler

from callbacks.optuna_pruning import OptunaPruning
from datamodules.errors import UserError
from reporting.optuna_study import STUDY_NAME, open_storage
from reporting.outcome import TrialPruned

OTHERS = ([0.2, 0.5, 0.7], [0.3, 0.4, 0.6], [0.1, 0.6, 0.8])
PRUNER = {"n_startup_trials": 3, "n_warmup_steps": 1}


@pytest.fixture
def study(tmp_path) -> optuna.Study:
    """Three trials that ended, and a fourth that runs."""
    found = optuna.create_study(
        storage=open_storage(tmp_path, create=True),
        study_name=STUDY_NAME,
        direction="maximize",
        sampler=RandomSampler(0),
    )
    for curve in OTHERS:
        trial = found.ask()
        for epoch, value in enumerate(curve):
            trial.report(value, epoch)
        found.tell(trial, max(curve))
    found.ask()
    return found


def epochs(folder, curve, first=0, monitor="val/dice", **about):
    """Validates and begins epochs as Lightning does; the epoch that is not begun any more."""
    callback = OptunaPruning(str(folder), "val/dice", MedianPruner(**PRUNER))
    trainer = SimpleNamespace(is_global_zero=True, fast_dev_run=False, world_size=1)
    trainer.state, trainer.sanity_checking, trainer.current_epoch = (
        SimpleNamespace(fn="fit"),
        False,
        first,
    )
    vars(trainer).update(about)
    callback.setup(trainer, None, "fit")
    callback.on_fit_start(trainer, None)
    for epoch, value in enumerate(curve, first):
        trainer.current_epoch, trainer.callback_metrics = epoch, {monitor: value}
        callback.on_train_epoch_start(trainer, None)
        callback.on_validation_end(trainer, None)
    trainer.current_epoch = first + len(curve)
    callback.on_train_epoch_start(trainer, None)


def test_a_trial_below_the_median_of_the_others_ends_with_its_best_score(study, tmp_path):
    epochs(tmp_path / "3", [0.05])  # not yet: the first epoch warms up
    with pytest.raises(TrialPruned, match="pruned after 2 epochs") as pruned:
        epochs(tmp_path / "3", [0.45, 0.9], first=1)  # the median of .5, .4 and .6 is .5
    assert pruned.value.score == pytest.approx(0.45)


def test_one_at_the_median_goes_on_and_reports_each_epoch_once(study, tmp_path):
    epochs(tmp_path / "3", [0.05, 0.5])
    epochs(
        tmp_path / "3", [0.1, 0.75], first=1
    )  # from the checkpoint of the first epoch: the second is trained again
    assert study.trials[3].intermediate_values == {0: 0.05, 1: 0.5, 2: 0.75}


def test_a_sanity_check_is_not_reported(study, tmp_path):
    epochs(tmp_path / "3", [0.05, 0.0], sanity_checking=True)
    assert study.trials[3].intermediate_values == {}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("0", "has ended"),
        ("9", "is unknown"),
        ("run", "does not contain it"),
        ("../3", "does not contain it"),
    ],
)
def test_a_run_that_is_no_running_trial_is_refused(study, tmp_path, name, wrong):
    with pytest.raises(UserError, match=wrong):
        epochs(tmp_path / name, [])


def test_a_score_that_is_not_logged_is_refused(study, tmp_path):
    with pytest.raises(
        UserError, match=r"val/dice, which was not logged.*hydra.sweeper.pruner=null"
    ):
        epochs(tmp_path / "3", [0.5], monitor="val/f1")
