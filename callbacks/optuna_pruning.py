"""Pruning of trials: reports the monitored score to the Optuna study and stops pruned trials."""

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
    """Load the trial of a run folder from its study.

    Raises:
        UserError: There is no study next to the folder, or the study does not run this trial.
    """
    folder = run_dir.absolute().parent
    fix = "remove callbacks.pruning from a run that is not a trial of hydra/sweeper=optuna"
    if not (folder / STUDY_FILE).is_file() or not run_dir.name.isdecimal():
        raise UserError(
            f"callbacks.pruning needs the study of {run_dir}, but {folder / STUDY_FILE} does not"
            f" contain it; {fix}"
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
            f" {'has ended' if found else 'is unknown'}; {fix}"
        )
    return optuna.Trial(study, found._trial_id)


class OptunaPruning(Callback):
    """Callback that reports the monitored score after each validation and ends pruned trials.

    A trial ends between two epochs. The study is that of the run folder's sweep, and the trial has
    the folder's number. The sweeper adds this callback.

    Example:
        callbacks: {pruning: {run_dir: "${paths.run}", monitor: "${monitor.name}", pruner:
            {_target_: optuna.pruners.MedianPruner}}}

    Args:
        run_dir: Numbered folder next to study.db.
        monitor: Name of the score, such as `val/dice`.
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
        """Load the trial, on the first process only.

        Raises:
            UserError: There is no study, or no such running trial.
        """
        if stage == "fit" and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._trial = load_running_trial(self.run_dir, self.pruner)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Create the flag here, because all ranks must create it together."""
        self._ranks = AnyRankFlag(trainer.world_size)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the score, unless this epoch was reported before an interruption of the trial."""
        if self._trial is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value, epoch = trainer.callback_metrics.get(self.monitor), trainer.current_epoch
        if value is None:
            raise UserError(
                f"hydra.sweeper.pruner needs {self.monitor}, which was not logged; set"
                " monitor.name, or hydra.sweeper.pruner=null"
            )
        if epoch not in _reported_values(self._trial):
            self._trial.report(float(value), epoch)
        self._prune = self._trial.should_prune()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a pruned trial on all ranks, after the previous epoch has written its checkpoints."""
        if self._ranks.sync(self._prune):
            message = (
                f"pruned after {trainer.current_epoch} epochs: by then the other trials of its"
                f" study had a better {self.monitor}"
            )
            _report_value(message)
            raise TrialPruned(message, self._best())

    def _best(self) -> float | None:
        if self._trial is None:  # another rank, which writes nothing
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
