from .runner import run_experiment, run_folds
from .tasks import run, run_task

__all__ = [
    "run",
    "run_experiment",
    "run_folds",
    "run_task",
]
