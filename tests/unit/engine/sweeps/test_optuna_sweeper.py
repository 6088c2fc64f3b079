"""Tests of a study whose launcher trains nothing.

They cover complete, resumed and changed studies (the last refused) and failed trials.
"""

import math

import optuna
import pytest
from optuna.trial import TrialState

from reporting.optuna_study import STUDY_NAME, open_storage
from reporting.outcome import Outcome, write_outcome
from tests.unit.engine.sweeps.conftest import score


def study(tmp_path) -> optuna.Study:
    return optuna.load_study(study_name=STUDY_NAME, storage=open_storage(tmp_path / "sweep"))


def test_a_killed_sweep_goes_on_with_the_trial_that_ran_and_ends_at_the_total(sweep, tmp_path):
    code, _, first = sweep("hydra.sweeper.n_trials=12", killed_at=5)
    assert code == 137 and list(first) == [0, 1, 2, 3, 4, 5]
    code, _, second = sweep("hydra.sweeper.n_trials=12")
    assert code == 0 and list(second) == [5, 6, 7, 8, 9, 10, 11]
    assert (
        second[5] == first[5] | {"resume": "auto"} and "resume" not in second[6]
    )  # a new trial has nothing to continue with
    known = study(tmp_path)
    assert [trial.state for trial in known.trials] == [TrialState.COMPLETE] * 12
    drawn = [first.get(k, second.get(k)) for k in range(12)]
    assert [trial.value for trial in known.trials] == pytest.approx([score(said) for said in drawn])
    assert (
        len({said["module.optimizer.lr"] for said in drawn}) == 12
    )  # nothing is drawn again after the interruption
    assert known.best_trial.number == max(range(12), key=lambda k: score(drawn[k]))


def test_the_first_trials_are_those_that_optuna_itself_draws(sweep):
    _, _, started = sweep("hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=7")
    space = {"module.optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)}
    space["module.net.lora.rank"] = optuna.distributions.CategoricalDistribution([4, 8])
    alone = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=7, multivariate=True, constant_liar=True),
    )
    for said in started.values():
        trial = alone.ask(space)
        assert {key: said[key] for key in space} == trial.params
        alone.tell(trial, score(said))


def test_failed_and_pruned_trials_and_scores_that_are_none_do_not_end_it(sweep, tmp_path):
    def ending(job, said):
        if job.number == 1:
            write_outcome(
                job.folder, Outcome(status="failed", failure="the loss was not a finite number")
            )
        elif job.number == 3:
            write_outcome(job.folder, Outcome(status="finished", score=math.nan))
        else:
            status = "pruned" if job.number == 2 else "finished"
            write_outcome(job.folder, Outcome(status=status, score=score(said)))

    code, said, _ = sweep("hydra.sweeper.n_trials=5", ending=ending)
    states = [trial.state for trial in study(tmp_path).trials]
    assert states == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]
    assert (
        code == 1
        and "2 trials failed" in said
        and "1: the loss was not a finite number" in said
        and "3: it has no score" in said
    )
    code, said, started = sweep("hydra.sweeper.n_trials=5")
    assert (
        code == 0 and not started
    )  # all have ended; what failed was told by the command that saw it


def test_a_trial_that_had_ended_when_the_sweep_was_killed_is_not_run_again(sweep, tmp_path):
    sweep("hydra.sweeper.n_trials=2", killed_at=1)
    write_outcome(tmp_path / "sweep/1", Outcome(status="finished", score=0.25))
    code, _, started = sweep("hydra.sweeper.n_trials=2")
    assert code == 0 and not started and study(tmp_path).trials[1].value == 0.25


def test_a_study_takes_no_folder_that_holds_runs_of_another(sweep, tmp_path):
    assert sweep("hydra.sweeper.n_trials=1")[0] == 0
    (tmp_path / "sweep/0/checkpoints").mkdir(parents=True)
    assert sweep("hydra.sweeper.n_trials=2")[0] == 0  # its own
    (tmp_path / "sweep/study.db").unlink()
    code, said, started = sweep("hydra.sweeper.n_trials=1")
    assert (
        code == 2
        and not started
        and "holds runs that are not in its study, such as 0; name another hydra.sweep.dir" in said
    )


OTHERS = {
    "module.optimizer.lr=tag(log,interval(1e-4,1e-1))": (
        "lr from 0.0001 to 0.01, log, and this command has it from 0.0001 to 0.1"
    ),
    "module.optimizer.lr=1e-3": (
        "module.optimizer.lr from 0.0001 to 0.01, log, and this command has it not searched"
    ),
    "image_size=64": "no such word, and this command has image_size=64",
    "monitor.mode=min": "a score to maximize, and this command has one to minimize",
}


@pytest.mark.slow
def test_another_search_in_the_same_folder_is_refused(sweep):
    assert sweep("hydra.sweeper.n_trials=1")[0] == 0
    for word, wrong in OTHERS.items():
        code, said, started = sweep("hydra.sweeper.n_trials=2", word)
        assert code == 2 and not started
        assert said.strip().count("\n") == 0 and wrong in said and "hydra.sweep.dir=FOLDER" in said


@pytest.mark.parametrize(
    ("words", "wrong", "mend"),
    [
        (["hydra.sweeper.n_trials=0"], "n_trials=0", "1 or more"),
        (["hydra.sweeper.n_jobs=0"], "n_jobs=0", "or null"),
        (["hydra/sweeper/sampler=grid"], "sampler=grid", "hydra/sweeper=basic"),
        (
            ["datamodule.seed=1,2"],
            "the best of several datamodule.seeds would be luck",
            "folds=5",
        ),
        (["hydra.sweep.subdir=x"], "hydra.sweep.subdir=x", "remove it"),
        (
            ["module.optimizer.lrr=interval(0,1)"],
            "module.optimizer.lrr is not a key",
            "module.optimizer.lr?",
        ),
    ],
)
def test_bad_words_are_refused_before_any_trial(sweep, tmp_path, words, wrong, mend):
    code, said, started = sweep(*words)
    assert code == 2 and not started and not (tmp_path / "sweep/study.db").exists()
    assert said.strip().count("\n") == 0 and wrong in said and mend in said


def test_words_without_effect_may_change_and_pruning_is_told_to_trials(sweep):
    _, _, first = sweep("hydra.sweeper.n_trials=1")
    pruner = first[0]["+callbacks.pruning"]["pruner"]
    assert (
        getattr(pruner["_target_"], "text", pruner["_target_"]) == "optuna.pruners.MedianPruner"
        and pruner["n_warmup_steps"] == 3
    )
    code, _, second = sweep(
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.pruner=null",
        "title=other",
        "trainer.enable_progress_bar=false",
    )
    assert code == 0 and "+callbacks.pruning" not in second[1]


def test_several_fits_of_one_trial_are_not_pruned(sweep):
    code, _, started = sweep("hydra.sweeper.n_trials=1", "folds=2")
    assert code == 0 and started[0]["folds"] == 2 and "+callbacks.pruning" not in started[0]
