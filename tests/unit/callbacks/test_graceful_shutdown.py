"""Tests of signals: the step that is saved, and that nothing of a fit stays behind."""

import gc
import os
import signal
import weakref

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from callbacks.graceful_shutdown import GracefulShutdown
from reporting.outcome import RunInterrupted
from tests.factories.one_weight import OneWeight, fit_one_weight


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("together", "batches"), [(1, 3), (2, 4)])
def test_what_is_saved_in_the_middle_of_an_epoch_is_the_step_that_was_finished(
    together, batches, number, tmp_path
):
    """The signal comes in the third batch; where two make a step, that ends with the fourth."""
    module = OneWeight(on_batch=lambda batch: batch == 2 and os.kill(os.getpid(), number))
    options = {"accumulate_grad_batches": together}
    with pytest.raises(RunInterrupted, match=f"stopped after step {batches // together};"):
        fit_one_weight(module, [GracefulShutdown(tmp_path)], epochs=2, batches=8, **options)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    progress = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert (saved["global_step"], saved["epoch"]) == (batches // together, 0)
    assert (
        progress["processed"] == batches
        and saved["state_dict"]["weight"].item() == saved["global_step"]
    )
