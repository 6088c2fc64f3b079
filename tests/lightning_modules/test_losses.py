"""Losses against hand computations and segmentation_models_pytorch."""

import math

import pytest
import segmentation_models_pytorch as smp
import torch

from lightning_modules.losses import Dice, Focal, WeightedSum


def test_focal_by_hand():
    logits, target = torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    p = [0.5, 1 - 1 / (1 + math.exp(-2))]  # probability of the true side
    plain = [-((1 - q) ** 2) * math.log(q) for q in p]
    assert Focal(2.0)(logits, target).item() == pytest.approx(sum(plain) / 2, rel=1e-5)
    assert Focal(2.0, alpha=0.25)(logits, target).item() == pytest.approx((0.25 * plain[0] + 0.75 * plain[1]) / 2, rel=1e-5)


def test_focal_and_dice_equal_smp_image_by_image():  # whose smooth counts once where ours counts twice, as in 2 TP
    logits, target = torch.randn(3, 2, 8, 8), torch.randint(0, 2, (3, 2, 8, 8)).float()
    for i in range(3):
        one, true = logits[i : i + 1], target[i : i + 1]
        assert Focal(2.0, 0.3)(one, true).item() == pytest.approx(smp.losses.FocalLoss("multilabel", alpha=0.3)(one, true).item(), rel=1e-4)
        assert Dice(1.0)(one, true).item() == pytest.approx(smp.losses.DiceLoss("multilabel", smooth=0.5)(one, true).item(), rel=1e-4)


def test_one_value_an_image_in_fp32_and_a_gradient_on_empty_images():
    loss = WeightedSum({"focal": Focal(), "dice": Dice()}, {"focal": 0.5, "dice": 0.5})
    logits = torch.zeros(4, 1, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    value = loss(logits, torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    assert value.shape == (4,) and value.dtype == torch.float32
    value.sum().backward()
    assert logits.grad.abs().min() > 0


def test_names_must_agree():
    with pytest.raises(ValueError, match="same names"):
        WeightedSum({"focal": Focal()}, {"dice": 1.0})
