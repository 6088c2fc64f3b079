"""Logger of metrics.csv, whose rows survive a killed or resumed run."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from datamodules.arguments import FilePath, validated
from datamodules.formats.atomic_write import atomic_write
from reporting.run_folder import METRICS_FILE

METRICS_KEY = "metrics_csv"  # of a checkpoint: the rows up to it, as text


@validated
class MetricsCsvLogger(Logger):
    """Logger that writes every number of a run to metrics.csv in the run folder.

    A row is appended as a whole. If a number is logged for the first time, the file is replaced by
    one with the new column. A file of an earlier run in the folder is replaced with the first row.

    Example:
        logger: {csv: {run_dir: "${paths.run}"}}

    Args:
        run_dir: Run folder.
    """

    def __init__(self, run_dir: FilePath) -> None:
        super().__init__()
        self.path = Path(run_dir) / METRICS_FILE
        self._rows: list[dict[str, str]] = []
        self._columns: list[str] = []
        self._written = 0  # rows in the file; the file of an earlier run does not count
        self._replace = True  # the file has to be written as a whole

    @property
    def name(self) -> str:
        """Empty, because the folder is named by the run."""
        return ""

    @property
    def version(self) -> str:
        """Empty, because a run has one file."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @property
    @rank_zero_experiment
    def experiment(self) -> "MetricsCsvLogger":
        """The logger itself; nothing on other ranks."""
        return self

    @rank_zero_only
    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Write nothing; the configuration is in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a row; `save` writes it."""
        row = {name: str(_to_number(value)) for name, value in metrics.items()}
        self._add_row(row | {"step": str(len(self._rows) if step is None else step)})

    @rank_zero_only
    def save(self) -> None:
        """Write the rows that are not in the file yet."""
        if self._written == len(self._rows) and not self._replace:
            return
        if not self._rows:
            return
        if self._replace:
            atomic_write(self.path, self.as_text().encode())
        else:
            with self.path.open("ab", buffering=0) as file:
                file.write(self._format(self._rows[self._written :], header=False).encode())
        self._written, self._replace = len(self._rows), False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the last rows."""
        self.save()

    def as_text(self, pending: Mapping[str, float] | None = None) -> str:
        """Return the content of metrics.csv.

        Args:
            pending: A further row that will be logged later.
        """
        rows, columns = self._rows, self._columns
        if pending:
            rows = [*rows, {name: str(_to_number(value)) for name, value in pending.items()}]
            columns = sorted({*columns, *pending})
        return self._format(rows, columns=columns)

    @rank_zero_only
    def restore(self, text: str) -> None:
        """Go on after the rows of a checkpoint, or of the file; `save` replaces the file."""
        self._rows, self._columns = [], []
        for row in csv.DictReader(io.StringIO(text)):
            self._add_row({name: value for name, value in row.items() if value})
        self._written, self._replace = 0, True

    def _add_row(self, row: dict[str, str]) -> None:
        self._rows.append(row)
        if not row.keys() <= set(self._columns):
            self._columns = sorted({*self._columns, *row})
            self._replace = True

    def _format(
        self, rows: list[dict[str, str]], header: bool = True, columns: list[str] | None = None
    ) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns or self._columns)
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


class MetricsHistory(Callback):
    """Callback that keeps the rows of metrics.csv in every checkpoint, and restores them.

    run.py adds it to every run. The file of a resumed run is then that of an uninterrupted one,
    whenever it was killed and whatever folder it continues in.
    """

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the rows, with that of an epoch which Lightning logs after the checkpoint."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsvLogger):
                checkpoint[METRICS_KEY] = logger.as_text(_pending_row(trainer))

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the rows if the fit continues from the checkpoint."""
        if trainer.state.fn != TrainerFn.FITTING or METRICS_KEY not in checkpoint:
            return
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCsvLogger):
                logger.restore(checkpoint[METRICS_KEY])


def _pending_row(trainer: Trainer) -> dict[str, float] | None:
    """Return the row of an epoch that has ended and is not logged yet; None if there is none."""
    progress = trainer.fit_loop.epoch_progress.current
    if trainer.state.fn != TrainerFn.FITTING or progress.processed == progress.completed:  # type: ignore[attr-defined]
        return None
    scores = trainer._logger_connector.metrics["log"]  # what Lightning logs a moment later
    if not scores:
        return None
    step = trainer.fit_loop.epoch_loop._batches_that_stepped - 1
    return {
        **{name: float(value) for name, value in scores.items()},
        "epoch": trainer.current_epoch,
        "step": step,
    }


def _to_number(value: Any) -> Any:
    item = getattr(value, "item", None)  # of a tensor
    return item() if callable(item) else value
