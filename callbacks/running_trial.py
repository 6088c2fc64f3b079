"""The trial of an Optuna study that this process runs."""

from pathlib import Path

import optuna
from optuna.pruners import BasePruner
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from datamodules.refusal import UserError

STUDY_FILE = "study.db"
STUDY_NAME = "sweep"
DATABASE_TIMEOUT = 60.0  # seconds for another process that writes
ENDED_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def open_storage(folder: Path, create: bool = False) -> RDBStorage:
    """The study's file in a sweep's folder; tables are made where it is new."""
    url = URL.create("sqlite", database=str(folder.absolute() / STUDY_FILE)).render_as_string()
    arguments = {"connect_args": {"timeout": DATABASE_TIMEOUT}}
    return RDBStorage(
        url.replace("{", "{{").replace("}", "}}"),
        arguments,
        skip_compatibility_check=not create,
        skip_table_creation=not create,
    )


def has_ended(trial: FrozenTrial) -> bool:
    """Whether its outcome is known to the study."""
    return trial.state in ENDED_STATES


def load_running_trial(run_dir: Path, pruner: BasePruner) -> optuna.Trial:
    """The trial of a run folder, in the process that carries it out.

    Raises:
        Refusal: beside the folder is no study, or the study does not run this trial.
    """
    folder = run_dir.absolute().parent
    mend = "leave callbacks.pruning out of a run that is no trial of hydra/sweeper=optuna"
    if not (folder / STUDY_FILE).is_file() or not run_dir.name.isdecimal():
        raise UserError(
            f"callbacks.pruning looks for the study of {run_dir}, and {folder / STUDY_FILE} is none of"
            f" it; {mend}"
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(
        study_name=STUDY_NAME,
        storage=open_storage(folder),
        pruner=pruner,
        sampler=optuna.samplers.RandomSampler(),
    )
    found = next(
        (trial for trial in study.get_trials(deepcopy=False) if trial.number == int(run_dir.name)),
        None,
    )
    if found is None or has_ended(found):
        raise UserError(
            f"trial {run_dir.name} of {folder / STUDY_FILE} {'has ended' if found else 'is unknown'};"
            f" {mend}"
        )
    return optuna.Trial(study, found._trial_id)
