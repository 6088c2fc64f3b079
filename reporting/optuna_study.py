"""The database of an Optuna study, in the folder of its sweep; light apart from Optuna."""

from pathlib import Path

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

STUDY_FILE, STUDY_NAME = "study.db", "sweep"
DATABASE_TIMEOUT = 60.0  # seconds to wait for another process that writes
ENDED_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def open_storage(folder: Path, create: bool = False) -> RDBStorage:
    """Open the study's database in a sweep's folder; `create` makes its tables."""
    url = URL.create("sqlite", database=str(folder.absolute() / STUDY_FILE)).render_as_string()
    arguments = {"connect_args": {"timeout": DATABASE_TIMEOUT}}
    return RDBStorage(
        url.replace("{", "{{").replace("}", "}}"),
        arguments,
        skip_compatibility_check=not create,
        skip_table_creation=not create,
    )


def has_ended(trial: FrozenTrial) -> bool:
    """Return True if the study knows the outcome of the trial."""
    return trial.state in ENDED_STATES
