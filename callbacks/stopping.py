"""Early stopping that stays stopped: a run that had ended does not go on when it is resumed."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class Stopping(EarlyStopping):
    """Lightning's EarlyStopping, except that a resumed run whose patience is used up does not train another epoch.

    Example:
        callbacks: {early_stopping: {monitor: val/dice, mode: max, patience: 15}}
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning does not keep that it had stopped."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
