"""Tests of the best checkpoint: it is of the epoch with the best score, of either kind of score."""

import pytest
import torch

from callbacks.checkpointing import BestCheckpoint
from tests.factories.one_weight import OneWeight, fit_one_weight


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 2)])
def test_the_best_weights_are_kept_and_not_the_last(mode, best, tmp_path):
    callback = BestCheckpoint(tmp_path, "val/score", mode, filename="best")
    module = OneWeight(scores=[0.5, 0.9, 0.1, 0.7])
    fit_one_weight(module, [callback], epochs=4, batches=2, enable_checkpointing=True)
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert saved["epoch"] == best and saved["state_dict"]["weight"].item() == 2 * (best + 1)
    assert callback.best_model_score.item() == pytest.approx(module.scores[best])
