"""resume=auto: a run that starts again in its own folder, as a requeued job does, goes on from its last checkpoint."""

import csv
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig

from callbacks.runs.launched import requeued


def own_checkpoint(cfg: DictConfig) -> Path | None:
    """The run folder's own last.ckpt, where `resume=auto` or Slurm has requeued the job, and there is one."""
    last = Path(cfg.paths.run) / "checkpoints" / "last.ckpt"
    return last if (cfg.resume == "auto" or requeued()) and "fit" in cfg.do and last.is_file() else None


def keep_metrics(trainer: Trainer, run_dir: Path, step: int | None) -> None:
    """Lets metrics.csv go on where the checkpoint stands; Lightning would begin it anew and delete what was there.

    Args:
        trainer: Whose loggers write it.
        run_dir: The run folder.
        step: Optimizer steps of the same run's checkpoint from which it goes on; None where nothing is trained, and all rows stay.
    """
    path = run_dir / "metrics.csv"
    if not path.is_file() or not trainer.is_global_zero:
        return
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            logger.experiment.metrics = [row for row in rows if step is None or int(row.get("step", 0)) < step]
            logger.save()  # Lightning has deleted the file by now
