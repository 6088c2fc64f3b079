"""Report the monitored score to the Optuna study and stop trials that it prunes."""

import sys
from pathlib import Path
from typing import Any

import optuna
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from optuna.pruners import BasePruner

from callbacks.graceful_shutdown import AnyRankFlag
from datamodules.errors import UserError
from reporting.optuna_study import STUDY_FILE, STUDY_NAME, has_ended, open_storage
from reporting.outcome import TrialPruned


def load_running_trial(run_dir: Path, pruner: BasePruner) -> optuna.Trial:
    """The trial of a run folder, in the process that carries it out.

    Raises:
        UserError: beside the folder is no study, or the study does not run this trial.
    """
    folder = run_dir.absolute().parent
    mend = "leave callbacks.pruning out of a run that is no trial of hydra/sweeper=optuna"
    if not (folder / STUDY_FILE).is_file() or not run_dir.name.isdecimal():
        raise UserError(
            f"callbacks.pruning looks for the study of {run_dir}, and {folder / STUDY_FILE} is none"
            f" of it; {mend}"
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
            f"trial {run_dir.name} of {folder / STUDY_FILE}"
            f" {'has ended' if found else 'is unknown'}; {mend}"
        )
    return optuna.Trial(study, found._trial_id)


class OptunaPruning(Callback):
    """Report the monitored score after each validation; end the trial where the pruner says so.

    The trial ends between two epochs. The study is the one of the sweep that the run folder belongs
    to, the trial has the folder's number. The sweeper adds this callback.

    Example:
        callbacks: {pruning: {run_dir: "${paths.run}", monitor: "${monitor.name}", pruner:
            {_target_: optuna.pruners.MedianPruner}}}

    Args:
        run_dir: A numbered folder beside study.db.
        monitor: The score, such as `val/dice`.
        pruner: Pruner of Optuna.
    """

    def __init__(self, run_dir: str, monitor: str, pruner: "optuna.pruners.BasePruner") -> None:
        self.run_dir = Path(run_dir)
        self.monitor = monitor
        self.pruner = pruner
        self._trial: optuna.Trial | None = None
        self._prune = False
        self._ranks = AnyRankFlag(1)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds its trial, on the first process alone.

        Raises:
            UserError: there is no study, or no such trial that runs.
        """
        if stage == "fit" and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._trial = load_running_trial(self.run_dir, self.pruner)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Create the agreement here, where all ranks are at the same time."""
        self._ranks = AnyRankFlag(trainer.world_size)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the score, unless this epoch was reported before the trial was cut off."""
        if self._trial is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value, epoch = trainer.callback_metrics.get(self.monitor), trainer.current_epoch
        if value is None:
            raise UserError(
                f"hydra.sweeper.pruner judges by {self.monitor}, which was not logged; set"
                " monitor.name, or hydra.sweeper.pruner=null"
            )
        if epoch not in _reported_values(self._trial):
            self._trial.report(float(value), epoch)
        self._prune = self._trial.should_prune()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the trial on all ranks at once, after the checkpoints of the epoch before."""
        if self._ranks.sync(self._prune):
            said = (
                f"pruned after {trainer.current_epoch} epochs: by then the other trials of its"
                f" study had a better {self.monitor}"
            )
            _report_value(said)
            raise TrialPruned(said, self._best())

    def _best(self) -> float | None:
        if self._trial is None:  # a further rank, which writes nothing
            return None
        better: Any = max if self._trial.study.direction.name == "MAXIMIZE" else min
        return better(
            (value for value in _reported_values(self._trial).values() if value == value),
            default=None,
        )


def _reported_values(trial: "optuna.Trial") -> dict[int, float]:
    return trial.storage.get_trial(trial._trial_id).intermediate_values


@rank_zero_only
def _report_value(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
