"""Tests that signals belong to the next fit of a process, and keep nothing of the last one."""

import gc
import signal
import weakref

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from callbacks.graceful_shutdown import GracefulShutdown


class Line(LightningModule):
    """A network of one weight, which fails at its second step if asked to."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.net, self.fails = torch.nn.Linear(1, 1), fails

    def training_step(self, batch, batch_idx):
        if self.fails and batch_idx:
            raise ValueError("no second step")
        return self.net(batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, fails):
    """Fit a network; return a weak reference to it."""
    module = Line(fails)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[GracefulShutdown(folder)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(module, DataLoader(torch.zeros(2, 1)))
    except ValueError:
        assert fails
    return weakref.ref(module)


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_fit_the_signals_are_as_before_and_its_network_is_free(fails, tmp_path):
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    network = fit(tmp_path, fails)
    assert [signal.getsignal(number) for number in numbers] == before
    gc.collect()
    assert network() is None
