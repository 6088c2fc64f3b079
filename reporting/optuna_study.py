"""The database of an Optuna study, in the folder of its sweep. Imports nothing heavy but Optuna."""

from pathlib import Path

from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

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
