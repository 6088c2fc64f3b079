"""Tests of overlap losses against hand computations and segmentation_models_pytorch."""

import math

import pytest
import segmentation_models_pytorch as smp
import torch

from lightning_modules.losses import DiceLoss, LovaszHingeLoss, TverskyLoss

ALL = [DiceLoss(), TverskyLoss(), LovaszHingeLoss()]


def drawn(images=3, classes=2, side=8, seed=0):
    torch.manual_seed(seed)
    return (
        torch.randn(images, classes, side, side),
        torch.randint(0, 2, (images, classes, side, side)).float(),
    )


def test_tversky_by_hand():
    p, q = (
        1 / (1 + math.exp(-1.0)),
        1 / (1 + math.exp(-3.0)),
    )  # p where the truth is 1, q where it is 0
    logits, target = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    by_hand = 1 - (p + 1) / (p + 0.3 * q + 0.7 * (1 - p) + 1)
    assert TverskyLoss(alpha=0.3, beta=0.7, smooth=1.0)(logits, target).item() == pytest.approx(
        by_hand, rel=1e-5
    )


def test_dice_and_tversky_equal_smp_image_by_image():
    # smp's smooth counts once where our Dice counts it twice, as in 2 TP
    logits, target = drawn()
    theirs = smp.losses.TverskyLoss("multilabel", alpha=0.3, beta=0.7, smooth=1.0)
    for one, true, dice, tversky in zip(
        logits.split(1),
        target.split(1),
        DiceLoss()(logits, target),
        TverskyLoss()(logits, target),
        strict=True,
    ):
        assert dice.item() == pytest.approx(
            smp.losses.DiceLoss("multilabel", smooth=0.5)(one, true).item(), rel=1e-4
        )
        assert tversky.item() == pytest.approx(theirs(one, true).item(), rel=1e-4)


def test_tversky_of_equal_weights_is_dice():
    assert torch.allclose(TverskyLoss(0.5, 0.5, smooth=0.5)(*drawn()), DiceLoss(1.0)(*drawn()))


def test_lovasz_by_hand():
    # errors 1 - l * sign: 2 (a lesion pixel), 1.5 (background), 0.5 (a lesion pixel);
    # the Jaccard loss grows by 1/2, 1/6, 1/3
    logits, target = torch.tensor([[[[-1.0, 0.5, 0.5]]]]), torch.tensor([[[[1.0, 0.0, 1.0]]]])
    assert LovaszHingeLoss()(logits, target).item() == pytest.approx(
        2 / 2 + 1.5 / 6 + 0.5 / 3, rel=1e-6
    )
    assert (
        LovaszHingeLoss()(torch.tensor([[[[-3.0, 0.5]]]]), torch.zeros(1, 1, 1, 2)).item() == 1.5
    )  # empty: the worst pixel


def test_lovasz_equals_smp_image_by_image_and_class_by_class():
    logits, target = drawn()
    theirs = smp.losses.LovaszLoss("multilabel", per_image=True)
    by_class = torch.stack(
        [theirs(logits[i], target[i]) for i in range(3)]
    )  # smp takes the classes of one image for a batch
    assert torch.allclose(LovaszHingeLoss()(logits, target), by_class)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_one_value_an_image_in_fp32_that_knows_no_other_image(loss):
    logits, target = drawn()
    found = loss(logits.bfloat16(), target.to(torch.uint8))
    assert found.shape == (3,) and found.dtype == torch.float32
    assert torch.allclose(found[1:2], loss(logits[1:2].bfloat16(), target[1:2]))


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)
def test_an_empty_image_has_a_gradient_and_huge_logits_a_finite_one(loss):
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    loss(logits, torch.zeros(2, 1, 4, 4)).sum().backward()
    assert (logits.grad.flatten(1) > 0).any(1).all()
    for far in (1e4, -1e4):
        for target in (torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)):
            logits = torch.full((2, 1, 4, 4), far, dtype=torch.bfloat16, requires_grad=True)
            value = loss(logits, target)
            value.sum().backward()
            assert torch.isfinite(value).all() and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", [DiceLoss, TverskyLoss])
def test_images_without_lesion_cost_nothing_where_lesions_alone_count(loss):
    logits, target = torch.randn(3, 2, 8, 8), torch.zeros(3, 2, 8, 8)
    target[0, 0, 2:5, 2:5] = target[1, :, 1:3, 1:7] = 1
    counted, alone = loss()(logits, target), loss(lesions_only=True)(logits, target)
    assert alone[2] == 0 < counted[2] and alone[1] == counted[1]
    assert alone[0] == pytest.approx(
        loss()(logits[:1, :1], target[:1, :1]).item() / 2
    )  # one of its two classes
