"""study.db of a sweep's folder: Optuna's study, what it searches, and which of its trials have ended. Imports nothing heavy but Optuna."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from callbacks.running_trial import ENDED_STATES, STUDY_FILE, STUDY_NAME, open_storage
from callbacks.sweeps.space import SearchSpace, describe_distribution
from datamodules.refusal import UserError

SIGNATURE_ATTRIBUTE = "searches"
IGNORED_OVERRIDE_PREFIXES = (
    "title=",
    "logger=",
    "logger.",
    "paths.",
    "trainer.enable_progress_bar=",
    "trainer.enable_model_summary=",
    "resume=",
)


def open_study(
    folder: Path,
    space: SearchSpace,
    direction: Literal["maximize", "minimize"],
    sampler: BaseSampler,
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
            storage=open_storage(folder, create=True),
            sampler=sampler,
            study_name=STUDY_NAME,
            direction=direction,
            load_if_exists=True,
        )
    except (SQLAlchemyError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise UserError(
            f"{folder / STUDY_FILE} cannot be read as a study ({said}); name another"
            " hydra.sweep.dir=FOLDER"
        ) from error
    now = study_signature(space, direction)
    made = study.user_attrs.get(SIGNATURE_ATTRIBUTE)
    if made is None:
        study.set_user_attr(SIGNATURE_ATTRIBUTE, now)
    elif differs := _signature_difference(made, now):
        mend = "take the words of that study, or start another one with hydra.sweep.dir=FOLDER"
        raise UserError(
            f"the study in {folder} has {differs[0]}, and this command has {differs[1]}; {mend}"
        )
    return study


def study_signature(space: SearchSpace, direction: str) -> dict[str, Any]:
    """What makes a study what it is, in words of JSON."""
    fixed = sorted(
        word
        for word in space.fixed_overrides
        if not word.lstrip("+~").startswith(IGNORED_OVERRIDE_PREFIXES)
    )
    return {
        "direction": direction,
        "space": {key: distribution_to_json(drawn) for key, drawn in space.distributions.items()},
        "fixed": fixed,
    }


def _signature_difference(
    stored: dict[str, Any], requested: dict[str, Any]
) -> tuple[str, str] | None:
    """What the study has, and what the command has instead; None where they are the same."""
    if stored["direction"] != requested["direction"]:
        return f"a score to {stored['direction']}", f"one to {requested['direction']}"
    for key in dict.fromkeys([*stored["space"], *requested["space"]]):
        then, here = (
            _describe_stored_distribution(of["space"].get(key)) for of in (stored, requested)
        )
        if then != here:
            return f"{key} {then}", f"it {here}"
    then, here = (
        _overrides_only_in_first(of["fixed"], other["fixed"])
        for of, other in ((stored, requested), (requested, stored))
    )
    return None if then == here else (then, here)


def _describe_stored_distribution(serialized: str | None) -> str:
    return (
        "not searched"
        if serialized is None
        else f"from {describe_distribution(json_to_distribution(serialized))}"
    )


def _overrides_only_in_first(overrides: list[str], others: list[str]) -> str:
    return " ".join(word for word in overrides if word not in others) or "no such word"


def format_progress(study: optuna.Study, n_trials: int) -> str:
    """How many trials have ended, and how."""
    counted = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    ended = sum(counted[state] for state in ENDED_STATES)
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


def interrupted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that an earlier command began and that have not ended, as far as the study knows."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
