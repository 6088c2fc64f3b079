"""A module of one weight that is known by hand: after s steps it is s."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader


class OneWeight(LightningModule):
    """Each step adds 1 to the weight, also where it gathers the gradients of several batches.

    Attributes:
        validated: The weight at each validation.
        scores: What is logged as `val/score`, epoch by epoch.
        on_batch: Called with the number of each training batch.
    """

    def __init__(self, scores: Sequence[float] = (), on_batch: Callable[[int], Any] = abs) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.scores, self.on_batch = list(scores), on_batch
        self.validated: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.on_batch(batch_idx)
        return -self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(float(self.weight))
        if self.scores:
            self.log("val/score", self.scores[self.current_epoch])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit_one_weight(
    module: OneWeight, callbacks: list[Callback], epochs: int, batches: int, **trainer: Any
) -> None:
    """Fit the module, with a validation of one batch after each epoch."""
    fixed = {"accelerator": "cpu", "num_sanity_val_steps": 0}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    loaders = [DataLoader(torch.zeros(number, 1)) for number in (batches, 1)]
    more = {"enable_checkpointing": False, "logger": False} | trainer
    Trainer(max_epochs=epochs, callbacks=callbacks, **fixed, **quiet, **more).fit(module, *loaders)
