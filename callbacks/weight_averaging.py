"""Weight averaging whose average is validated, saved and tested, and ends with the fit."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging

from datamodules.arguments import Fraction, NonNegativeInt, validated


@validated
class EMAWeightAverage(EMAWeightAveraging):
    """Exponential moving average of the weights over the steps.

    When `trainer.validate` follows a fit, Lightning 2.6 replaces the weights of the requested
    checkpoint by its average; here the average is dropped when the fit ends.

    Example:
        callbacks: {ema: {decay: 0.99}}

    Args:
        decay: Weight of the previous average at each step.
        **averaging: Arguments of Lightning's EMAWeightAveraging.
    """

    def __init__(self, decay: Fraction = 0.99, **averaging: Any) -> None:
        super().__init__(decay=decay, **averaging)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the average, which the module and the checkpoints hold now."""
        self._average_model = None


@validated
class SWAWeightAverage(WeightAveraging):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the late epochs' weights.

    The plain mean of the weights at the end of each late epoch.

    Lightning's own callback of this name sets its average after the last checkpoint is written, so
    it is never tested. BatchNorm statistics are averaged with the weights.

    Example:
        callbacks: {swa: {start_epoch: 80}}

    Args:
        start_epoch: First epoch (from 0) that is averaged.
    """

    def __init__(self, start_epoch: NonNegativeInt) -> None:
        super().__init__(use_buffers=True)
        self.start_epoch = start_epoch
        self._epoch_ends = False

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return True at the end of a late epoch, so that its validation evaluates the new mean."""
        return step_idx is not None and self._epoch_ends

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average; before `start_epoch` it is a copy of the weights."""
        self._epoch_ends = trainer.is_last_batch and trainer.current_epoch >= self.start_epoch
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.is_last_batch and not self._epoch_ends and self._average_model is not None:
            self._average_model.module.load_state_dict(pl_module.state_dict())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the average, as `EMAWeightAverage` does."""
        self._average_model = None
