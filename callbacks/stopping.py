"""Early stopping that stays stopped when a run that had ended is resumed."""

from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from datamodules.arguments import Count, NonNegative, validated


@validated
class ResumableEarlyStopping(EarlyStopping):
    """Lightning's EarlyStopping, except that a resumed run without patience left stays stopped.

    Example:
        callbacks: {early_stopping: {monitor: val/dice, mode: max, patience: 15}}

    Args:
        monitor: Name of the score that decides.
        mode: Whether the highest or the lowest score is the best.
        patience: Validations without a better score after which training stops.
        strict: Whether a score that was not logged is an error.
        min_delta: What counts as better, as a difference of the score.
        **stopping: As Lightning's EarlyStopping.
    """

    def __init__(
        self,
        monitor: str,
        mode: Literal["max", "min"] = "min",
        patience: Count = 3,
        strict: bool = True,
        min_delta: NonNegative = 0.0,
        **stopping: Any,
    ) -> None:
        super().__init__(
            monitor, mode=mode, patience=patience, strict=strict, min_delta=min_delta, **stopping
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; the patience is that of this run's configuration."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again if patience is used up, because Lightning does not save that it stopped."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
