"""Stop of training when the loss is not finite, with the images of the last batches."""

from collections import deque
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from datamodules.arguments import PositiveInt, validated
from datamodules.errors import UserError


@validated
class StopOnNonFiniteLoss(Callback):
    """Callback that stops training on a NaN or infinite loss.

    It keeps one flag on the device and reads it every few steps, so that no step waits for it.

    Example:
        callbacks: {nonfinite_loss: {check_every_n_steps: 50}}

    Args:
        check_every_n_steps: Number of steps between two checks.
    """

    def __init__(self, check_every_n_steps: PositiveInt = 50) -> None:
        self.check_every_n_steps = check_every_n_steps
        self._bad: torch.Tensor | None = None
        self._recent: deque[list[str]] = deque(maxlen=3)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the flag; check it every `check_every_n_steps` steps."""
        bad = ~torch.isfinite(outputs["loss"].detach())
        self._bad = bad if self._bad is None else self._bad | bad
        self._recent.append(batch["id"])
        if (batch_idx + 1) % self.check_every_n_steps == 0:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check at the end of an epoch too."""
        self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check before weights that are not finite are validated and saved."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self._bad is not None and bool(self._bad):
            ids = ", ".join(id for batch in self._recent for id in batch[:4])
            raise UserError(
                f"the loss was not a finite number within the {self.check_every_n_steps} steps"
                f" before step {trainer.global_step}; the last batches held {ids} ...; lower"
                " module.optimizer.lr, or set trainer.precision=32-true"
            )
        self._bad = None
