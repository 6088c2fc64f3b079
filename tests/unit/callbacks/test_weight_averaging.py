"""Tests of averaged weights against averages by hand."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.weight_averaging import EMAWeightAverage, SWAWeightAverage
from tests.factories.one_weight import OneWeight, fit_one_weight


def moving_average(decay: float) -> list[float]:
    """After epochs of two steps; the weight after step s is s, and the first step is copied."""
    averages = [1.0]
    for step in range(2, 7):
        averages.append(decay * averages[-1] + (1 - decay) * step)
    return averages[1::2]


@pytest.mark.parametrize(
    ("average", "by_hand"),
    [
        (lambda: EMAWeightAverage(decay=0.5), moving_average(0.5)),
        (lambda: EMAWeightAverage(decay=0.9), moving_average(0.9)),
        (lambda: SWAWeightAverage(start_epoch=1), [2.0, 4.0, (4.0 + 6.0) / 2]),
        (lambda: SWAWeightAverage(start_epoch=0), [2.0, (2.0 + 4.0) / 2, (2.0 + 4.0 + 6.0) / 3]),
    ],
)
def test_the_average_is_validated_saved_and_left_behind(average, by_hand, tmp_path):
    module = OneWeight()
    saving = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True)
    options = {"enable_checkpointing": True}
    fit_one_weight(module, [average(), saving], epochs=3, batches=2, **options)
    assert module.validated == pytest.approx(by_hand)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"]["weight"].item() == pytest.approx(by_hand[-1])
    assert saved["current_model_state"]["weight"].item() == 6  # training continues from this one
    assert module.weight.item() == pytest.approx(by_hand[-1])
