"""Tests of early stopping and averaged weights.

A run that had stopped does not train further when resumed; averaging leaves the loss unchanged.
"""

import pandas as pd
import pytest

from tests.conftest import SMALL
from tests.integration.test_ranks import WORDS

STOP = (
    "callbacks=[checkpoint,early_stopping,threshold_search/segmentation,graceful_shutdown,nonfinite_loss,"
    "resources,report]"
)


@pytest.mark.slow
def test_a_run_that_had_stopped_early_stays_so_when_it_is_resumed(cli, export, tmp_path):
    words = [
        *SMALL,
        f"datamodule.root={export}",
        STOP,
        "callbacks.early_stopping.patience=1",
        "module.optimizer.lr=1e-12",
        "trainer.max_epochs=6",
    ]
    words += ["datamodule.batches_per_epoch=1", "resume=auto"]
    trained = []
    for _ in range(2):
        code, said = cli(*words, folder=tmp_path / "run")
        assert code == 0, said
        trained.append(pd.read_csv(tmp_path / "run/metrics.csv")["train/loss"].notna().sum())
    assert trained[0] < 6 and trained[1] == trained[0]


@pytest.mark.slow
def test_the_loss_of_averaged_weights_is_weighed_as_that_of_the_others(cli, thorax, tmp_path):
    """An average is kept of every buffer; the weights of classes were one."""
    callbacks = (
        "callbacks=[checkpoint,threshold_search/segmentation,sampling_monitor,graceful_shutdown,"
        "nonfinite_loss,resources,report]"
    )
    words = [
        *[word for word in WORDS if not word.startswith("callbacks=")],
        f"datamodule.root={thorax}",
        "trainer.max_epochs=1",
    ]
    code, said = cli(
        *words,
        callbacks,
        "extra=ema",
        "callbacks.ema.decay=0.0",
        "module.optimizer.lr=1e-12",
        folder=tmp_path / "ema",
    )
    assert code == 0, said
    code, said = cli(*words, WORDS[-1], "module.optimizer.lr=1e-12", folder=tmp_path / "plain")
    assert code == 0, said
    one, two = (
        pd.read_csv(tmp_path / name / "metrics.csv")["val/loss"].dropna().iloc[0]
        for name in ("ema", "plain")
    )
    assert abs(one - two) < 1e-4
