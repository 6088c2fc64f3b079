"""A callback that knows how long the fit, the search of the threshold and the test took before it."""

from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.pseudo_labels.clock import StepTimer
from callbacks.report.showing import ReportContributor


class StageTimer(ReportContributor):
    """Counts the steps that come before a prediction on `timer`."""

    def __init__(self) -> None:
        self.timer = StepTimer()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Of the fit, its validations included."""
        self.timer.start("fit")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It is over."""
        self.timer.stop("fit")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The threshold is searched once more after the fit, on the best weights."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.timer.start("threshold")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It is found."""
        self.timer.stop("threshold")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The classifier is tested."""
        self.timer.start("test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It was."""
        self.timer.stop("test")
