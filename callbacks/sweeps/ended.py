"""How trials ended, from their folders to the study; and folders that the study knows nothing of."""

from pathlib import Path

import optuna
from optuna.trial import TrialState

from callbacks.runs import outcome
from callbacks.sweeps.job import Job
from datamodules.refusal import UserError


def check_no_foreign_runs(folder: Path, n_trials: int) -> None:
    """A run of another sweep must neither be lost nor be gone on with under other values."""
    others = [
        path.name
        for path in folder.iterdir()
        if path.name.isdecimal() and int(path.name) >= n_trials and (path / "checkpoints").is_dir()
    ]
    if others:
        raise UserError(
            f"{folder} holds runs that its study does not know, such as {min(others, key=int)};"
            " name another hydra.sweep.dir=FOLDER"
        )


def report_outcome(study: optuna.Study, job: Job) -> None:
    """What a trial's folder says of its end; nothing of one that was stopped."""
    said = outcome.read_outcome(job.folder)
    if said is None:
        return
    score = said["score"]
    if said["status"] == "pruned":
        study.tell(job.number, state=TrialState.PRUNED)
    elif said["status"] == "finished" and score is not None:
        study.tell(job.number, score)
    else:
        failure = (
            said["failure"] or "it has no score; do= must contain fit, and monitor.name be logged"
        )
        outcome.write_outcome(job.folder, None, failure)
        study.tell(job.number, state=TrialState.FAIL)
