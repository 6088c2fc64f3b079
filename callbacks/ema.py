"""Exponential moving average of the weights, which ends with the fit."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging


class Ema(EMAWeightAveraging):
    """Lightning's average; what is validated, saved and tested is the average.

    Lightning 2.6 keeps swapping it in when `trainer.validate` follows a fit, over the checkpoint that was asked for; here
    the average is forgotten when the fit ends.

    Example:
        callbacks: {ema: {decay: 0.99}}
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The module holds the average by now, and the checkpoints do too."""
        self._average_model = None
