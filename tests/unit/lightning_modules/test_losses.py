"""Tests of losses against hand computations and segmentation_models_pytorch."""

import math

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from datamodules.errors import UserError
from lightning_modules.instantiation import WHITELIST
from lightning_modules.losses import (
    BCELoss,
    ClassBalancedBCELoss,
    DiceLoss,
    FocalLoss,
    MulticlassFocalLoss,
    WeightedLoss,
)
from run import CONF

SUMS = ["focal_dice", "bce_dice_focal", "dice_focal_tversky", "lovasz"]


def configured(name):
    return instantiate(
        OmegaConf.load(CONF / f"module/loss/{name}.yaml"),
        _convert_="all",
        _execution_whitelist_=WHITELIST,
    )


def test_focal_by_hand():
    logits, target = torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    p = [0.5, 1 - 1 / (1 + math.exp(-2))]  # probability of the true side
    plain = [-((1 - q) ** 2) * math.log(q) for q in p]
    assert FocalLoss(2.0)(logits, target).item() == pytest.approx(sum(plain) / 2, rel=1e-5)
    assert FocalLoss(2.0, alpha=0.25)(logits, target).item() == pytest.approx(
        (0.25 * plain[0] + 0.75 * plain[1]) / 2, rel=1e-5
    )


def test_focal_equals_smp_image_by_image():
    logits, target = torch.randn(3, 2, 8, 8), torch.randint(0, 2, (3, 2, 8, 8)).float()
    for i in range(3):
        one, true = logits[i : i + 1], target[i : i + 1]
        assert FocalLoss(2.0, 0.3)(one, true).item() == pytest.approx(
            smp.losses.FocalLoss("multilabel", alpha=0.3)(one, true).item(), rel=1e-4
        )


def test_one_value_an_image_in_fp32_and_a_gradient_on_empty_images():
    loss = WeightedLoss({"focal": FocalLoss(), "dice": DiceLoss()}, {"focal": 0.5, "dice": 0.5})
    logits = torch.zeros(4, 1, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    value = loss(logits, torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    assert value.shape == (4,) and value.dtype == torch.float32
    value.sum().backward()
    assert logits.grad.abs().min() > 0


def test_bce_by_hand():
    logits, target = torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    positive, negative = math.log(2), math.log(1 + math.exp(2))
    assert BCELoss()(logits, target).item() == pytest.approx((positive + negative) / 2, rel=1e-6)
    assert BCELoss(pos_weight=3.0)(logits, target).item() == pytest.approx(
        (3 * positive + negative) / 2, rel=1e-6
    )
    assert not BCELoss(pos_weight=3.0).state_dict()  # a checkpoint does not carry it


def test_names_must_agree():
    terms = {"focal": FocalLoss(), "dice": DiceLoss()}
    with pytest.raises(
        UserError,
        match=(
            "dise is not a term of this loss, the term dice has no weight; set one weight for each"
            " of focal, dice"
        ),
    ):
        WeightedLoss(terms, {"focal": 1.0, "dise": 1.0})
    loss = WeightedLoss(terms, {"focal": 1.0, "dice": 1.0})
    with pytest.raises(UserError, match="the term dice has no weight"):
        loss.set_weights({"focal": 1.0})
    assert loss.weights == {"focal": 1.0, "dice": 1.0}  # what was refused left nothing behind


def test_reweighed_the_sum_is_another():
    logits, target = torch.randn(3, 1, 8, 8), torch.randint(0, 2, (3, 1, 8, 8))
    loss = WeightedLoss({"focal": FocalLoss(), "dice": DiceLoss()}, {"focal": 0.5, "dice": 0.5})
    loss.set_weights({"dice": 2.0, "focal": 0.25})
    assert torch.allclose(
        loss(logits, target), 0.25 * FocalLoss()(logits, target) + 2 * DiceLoss()(logits, target)
    )


@pytest.mark.parametrize("name", SUMS)
def test_configured_sums_give_one_value_an_image_and_finite_gradients_under_autocast(name):
    loss = configured(name)
    assert sum(loss.weights.values()) == pytest.approx(1)
    target = torch.zeros(3, 2, 8, 8, dtype=torch.uint8)
    target[0, :, 2:5, 2:5] = 1
    for scale in (1.0, 1e4):
        torch.manual_seed(0)
        logits = (scale * torch.randn(3, 2, 8, 8)).bfloat16().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(logits, target)
        value.sum().backward()
        assert (
            value.shape == (3,)
            and value.dtype == torch.float32
            and torch.isfinite(value).all()
            and torch.isfinite(logits.grad).all()
        )
        assert torch.allclose(value, loss(logits.float(), target))
        assert (
            logits.grad[1:].abs().amax((1, 2, 3)).min() > 0
        )  # the images without lesion teach something


def test_focal_weighs_positives_by_alpha_and_negatives_by_the_rest():
    logits, target = torch.tensor([[2.0], [-1.0], [0.3]]), torch.tensor([[1.0], [1.0], [0.0]])
    p = [1 / (1 + math.exp(-2.0)), 1 / (1 + math.exp(1.0)), 1 / (1 + math.exp(-0.3))]
    by_hand = [
        -0.25 * (1 - p[0]) ** 2 * math.log(p[0]),
        -0.25 * (1 - p[1]) ** 2 * math.log(p[1]),
        -0.75 * p[2] ** 2 * math.log(1 - p[2]),
    ]
    found = FocalLoss(gamma=2.0, alpha=0.25)(
        logits.bfloat16(), target
    )  # what autocast hands over is taken to fp32
    assert found.dtype == torch.float32 and found.shape == (3,)
    assert FocalLoss(gamma=2.0, alpha=0.25)(logits, target).tolist() == pytest.approx(
        by_hand, rel=1e-5
    )


def test_exclusive_focal_without_focus_is_cross_entropy_and_weighs_by_the_true_class():
    torch.manual_seed(0)
    logits, true = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    one_hot = torch.eye(3)[true]
    plain = torch.nn.functional.cross_entropy(logits, true, reduction="none")
    assert torch.allclose(MulticlassFocalLoss(gamma=0.0)(logits, one_hot), plain)
    p = logits.softmax(1)[torch.arange(5), true]
    alpha = torch.tensor([0.2, 0.5, 0.3])
    assert torch.allclose(
        MulticlassFocalLoss(gamma=2.0, alpha=alpha.tolist())(logits, one_hot),
        alpha[true] * (1 - p) ** 2 * plain,
    )


def test_balanced_cross_entropy_is_the_weighted_softmax_of_class_and_background():
    """One class: a softmax over (background, class) with the weights total / (2 n), by torch."""
    random = torch.Generator().manual_seed(4)
    logits, target = (
        torch.randn(3, 1, 8, 8, generator=random),
        (torch.rand(3, 1, 8, 8, generator=random) < 0.1).float(),
    )
    pixels = np.array([[900, 100]])
    loss = ClassBalancedBCELoss()
    assert torch.allclose(loss(logits, target), BCELoss()(logits, target))
    loss.balance(pixels)
    assert loss.weights.tolist() == [pytest.approx([1000 / 1800, 1000 / 200])]
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    theirs = (
        torch.nn.functional.cross_entropy(
            two, target[:, 0].long(), weight=loss.weights[0], reduction="none"
        )
        .flatten(1)
        .mean(1)
    )
    assert torch.allclose(loss(logits, target), theirs, atol=1e-6)


def test_balanced_cross_entropy_weighs_each_class_by_itself_and_leaves_what_is_not_there():
    logits, target = torch.randn(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    loss = ClassBalancedBCELoss()
    loss.balance(np.array([[50, 50], [75, 25], [100, 0]]))
    assert loss.weights.tolist() == [[1, 1], pytest.approx([100 / 150, 2]), [1, 1]]
    each = [
        BCELoss()(logits[:, c : c + 1], target[:, c : c + 1]) * weight
        for c, weight in enumerate((1, 2, 1))
    ]
    assert torch.allclose(loss(logits, target), torch.stack(each).mean(0), atol=1e-6)
    given = ClassBalancedBCELoss([[0.5, 54.22]])
    given.balance(np.array([[1, 1]]))
    assert given.weights.tolist() == [pytest.approx([0.5, 54.22])]


def test_the_weight_of_positives_may_come_from_train():
    logits, target = torch.randn(6, 2), torch.tensor([[1, 0]] * 6)
    loss = BCELoss(pos_weight="train")
    assert torch.allclose(loss(logits, target), BCELoss()(logits, target))
    loss.balance(np.array([[30, 10], [5, 0]]))
    each = torch.nn.BCEWithLogitsLoss(reduction="none", pos_weight=torch.tensor([3.0, 1.0]))(
        logits, target.float()
    ).mean(1)
    assert torch.allclose(loss(logits, target), each)
    maps = torch.randn(2, 2, 4, 5)
    assert loss(maps, (maps > 0).float()).shape == (2,)
    fixed = BCELoss(pos_weight=2.0)
    fixed.balance(np.array([[30, 10]]))
    assert fixed.pos_weight == 2.0
    with pytest.raises(UserError, match="pos_weight=often"):
        BCELoss(pos_weight="often")
