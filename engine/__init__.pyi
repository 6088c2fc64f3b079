from .runner import run_experiment, run_folds
from .tasks import run_task

__all__ = [
    "run_experiment",
    "run_folds",
    "run_task",
]
