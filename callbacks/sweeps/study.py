"""study.db of a sweep's folder: Optuna's study, what it searches, and which of its trials have ended. Imports nothing heavy but Optuna."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from callbacks.sweeps.space import Space, described
from datamodules.refusal import Refusal

NAME = "study.db"
STUDY = "sweep"
SEARCHES = "searches"
WAIT = 60.0  # seconds for another process that writes
WITHOUT_EFFECT = (
    "title=",
    "logger=",
    "logger.",
    "paths.",
    "trainer.enable_progress_bar=",
    "trainer.enable_model_summary=",
    "resume=",
)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def storage(folder: Path, new: bool = False) -> RDBStorage:
    """The study's file in a sweep's folder; tables are made where it is new."""
    url = URL.create("sqlite", database=str(folder.absolute() / NAME)).render_as_string()
    arguments = {"connect_args": {"timeout": WAIT}}
    return RDBStorage(
        url.replace("{", "{{").replace("}", "}}"),
        arguments,
        skip_compatibility_check=not new,
        skip_table_creation=not new,
    )


def open_study(
    folder: Path, space: Space, direction: Literal["maximize", "minimize"], sampler: BaseSampler
) -> optuna.Study:
    """The study of a sweep, made where there is none.

    Args:
        folder: Of the sweep.
        space: What this command searches.
        direction: Of the score.
        sampler: Of Optuna.

    Raises:
        Refusal: the study there searches something else, or the file is none.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=storage(folder, new=True),
            sampler=sampler,
            study_name=STUDY,
            direction=direction,
            load_if_exists=True,
        )
    except (SQLAlchemyError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise Refusal(
            f"{folder / NAME} cannot be read as a study ({said}); name another"
            " hydra.sweep.dir=FOLDER"
        ) from error
    now = searches(space, direction)
    made = study.user_attrs.get(SEARCHES)
    if made is None:
        study.set_user_attr(SEARCHES, now)
    elif differs := _difference(made, now):
        mend = "take the words of that study, or start another one with hydra.sweep.dir=FOLDER"
        raise Refusal(
            f"the study in {folder} has {differs[0]}, and this command has {differs[1]}; {mend}"
        )
    return study


def searches(space: Space, direction: str) -> dict[str, Any]:
    """What makes a study what it is, in words of JSON."""
    fixed = sorted(word for word in space.fixed if not word.lstrip("+~").startswith(WITHOUT_EFFECT))
    return {
        "direction": direction,
        "space": {key: distribution_to_json(drawn) for key, drawn in space.searched.items()},
        "fixed": fixed,
    }


def _difference(made: dict[str, Any], now: dict[str, Any]) -> tuple[str, str] | None:
    """What the study has, and what the command has instead; None where they are the same."""
    if made["direction"] != now["direction"]:
        return f"a score to {made['direction']}", f"one to {now['direction']}"
    for key in dict.fromkeys([*made["space"], *now["space"]]):
        then, here = (_drawn(of["space"].get(key)) for of in (made, now))
        if then != here:
            return f"{key} {then}", f"it {here}"
    then, here = (_only(of["fixed"], other["fixed"]) for of, other in ((made, now), (now, made)))
    return None if then == here else (then, here)


def _drawn(said: str | None) -> str:
    return "not searched" if said is None else f"from {described(json_to_distribution(said))}"


def _only(words: list[str], others: list[str]) -> str:
    return " ".join(word for word in words if word not in others) or "no such word"


def progress(study: optuna.Study, n_trials: int) -> str:
    """How many trials have ended, and how."""
    counted = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    ended = sum(counted[state] for state in ENDED)
    names = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    how = ", ".join(f"{counted[state]} {name}" for state, name in names.items() if counted[state])
    open_ = (
        f"; {counted[TrialState.RUNNING]} cut off, taken up again"
        if counted[TrialState.RUNNING] and ended < n_trials
        else ""
    )
    return f"{ended} of {n_trials} trials ended" + (f" ({how})" if how else "") + open_


def has_ended(trial: FrozenTrial) -> bool:
    """Whether its outcome is known to the study."""
    return trial.state in ENDED


def cut_off(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that an earlier command began and that have not ended, as far as the study knows."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def running_trial(run_dir: Path, pruner: BasePruner) -> optuna.Trial:
    """The trial of a run folder, in the process that carries it out.

    Raises:
        Refusal: beside the folder is no study, or the study does not run this trial.
    """
    folder = run_dir.absolute().parent
    mend = "leave callbacks.pruning out of a run that is no trial of hydra/sweeper=optuna"
    if not (folder / NAME).is_file() or not run_dir.name.isdecimal():
        raise Refusal(
            f"callbacks.pruning looks for the study of {run_dir}, and {folder / NAME} is none of"
            f" it; {mend}"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(
        study_name=STUDY,
        storage=storage(folder),
        pruner=pruner,
        sampler=optuna.samplers.RandomSampler(),
    )
    found = next(
        (trial for trial in study.get_trials(deepcopy=False) if trial.number == int(run_dir.name)),
        None,
    )
    if found is None or has_ended(found):
        raise Refusal(
            f"trial {run_dir.name} of {folder / NAME} {'has ended' if found else 'is unknown'};"
            f" {mend}"
        )
    return optuna.Trial(study, found._trial_id)
