"""Tests of what a training step returns: the loss by hand, with auxiliary outputs and weights."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_modules.base import SupervisedModule
from lightning_modules.losses import BCELoss

LOGITS = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]])
FURTHER = torch.tensor([[-1.0, 2.0], [4.0, 0.0], [0.3, -0.7]])
TARGET = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


class Labels(SupervisedModule):
    target = "label"


class Two(nn.Module):
    """Gives an auxiliary output in training, as UPerNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        logits = LOGITS + self.shift
        return (logits, FURTHER + self.shift) if self.training else logits


def each(logits):
    return F.binary_cross_entropy_with_logits(logits, TARGET, reduction="none").mean(1)


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5])])
@pytest.mark.parametrize("auxiliary", [0.0, 0.4])
def test_the_loss_is_the_weighted_mean_over_images_of_all_outputs(auxiliary, weight, monkeypatch):
    module = Labels(Two(), BCELoss(), partial(torch.optim.SGD, lr=1.0), auxiliary_weight=auxiliary)
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **more: logged.update({name: value}))
    batch = {"image": torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "label": TARGET}
    batch |= {} if weight is None else {"weight": weight}
    loss = module.train().training_step(batch, 0)
    by_hand = each(LOGITS) + auxiliary * each(FURTHER)
    assert loss.item() == pytest.approx((by_hand * (1 if weight is None else weight)).mean().item())
    assert logged["train/loss"].compute().item() == pytest.approx(loss.item())
