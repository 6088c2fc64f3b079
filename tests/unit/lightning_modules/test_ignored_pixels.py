"""Losses without the ignored pixels equal losses of the other pixels alone; gradients there are 0.

The loss of exclusive classes is compared with a sum by hand.
"""

from functools import partial

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F

from datamodules.errors import UserError
from datamodules.loading.dataset import collate
from datamodules.loading.letterbox import ContentBox
from lightning_modules.instantiation import WHITELIST
from lightning_modules.losses import (
    BCELoss,
    ClassBalancedBCELoss,
    DiceCrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszHingeLoss,
    TverskyLoss,
    WeightedLoss,
    apply_loss,
)
from lightning_modules.segmentation import SegmentationModule
from run import CONF

balanced = ClassBalancedBCELoss()
balanced.balance(np.array([[900, 100], [600, 400], [800, 200]]))
LOSSES = {
    "focal": FocalLoss(2.0, 0.3),
    "bce": BCELoss(pos_weight=2.0),
    "balanced": balanced,
    "dice": DiceLoss(),
    "dice of lesions": DiceLoss(lesions_only=True),
    "tversky": TverskyLoss(lesions_only=True),
    "lovasz": LovaszHingeLoss(),
    "dice and cross-entropy": DiceCrossEntropyLoss(exclusive=False, dice=0.3, cross_entropy=0.7),
    "exclusive": DiceCrossEntropyLoss(exclusive=True),
    "exclusive, lesions": DiceCrossEntropyLoss(exclusive=True, lesions_only=True, smooth=0.5),
    "sum": WeightedLoss({"a": FocalLoss(), "b": LovaszHingeLoss()}, {"a": 0.5, "b": 2.0}),
}


def drawn(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, overlapping planes and ignored pixels; one image lacks a class."""
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(4, 3, 9, 11, generator=random)
    target = (torch.rand(4, 3, 9, 11, generator=random) < 0.3).to(torch.uint8)
    target[1, 2] = 0
    return logits, target, (torch.rand(4, 1, 9, 11, generator=random) < 0.4).to(torch.uint8)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_that_of_the_other_pixels_alone_and_teaches_nothing_at_the_ignored_ones(name):
    loss, (logits, target, ignored) = LOSSES[name], drawn()
    logits.requires_grad_()
    found = loss(logits, target, ignored)
    assert found.shape == (4,) and found.dtype == torch.float32
    for i in range(4):
        kept = ignored[i, 0] == 0
        alone = loss(logits[i : i + 1, :, kept][..., None], target[i : i + 1, :, kept][..., None])
        assert found[i].item() == pytest.approx(alone.item(), rel=1e-5)
    found.sum().backward()
    gradient = logits.grad
    assert (gradient[ignored.expand_as(gradient) > 0] == 0).all()
    others = gradient[ignored.expand_as(gradient) == 0]
    assert (others != 0).float().mean() > (0.2 if name == "lovasz" else 0.5)
    nothing = torch.zeros_like(ignored)
    assert torch.allclose(loss(logits, target, nothing), loss(logits, target), rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_that_is_ignored_as_a_whole_has_a_finite_loss_without_a_gradient(name):
    logits, target, _ = drawn()
    logits = logits.bfloat16().requires_grad_()
    found = LOSSES[name](logits, target, torch.ones(4, 1, 9, 11, dtype=torch.uint8))
    assert torch.isfinite(found).all() and found.dtype == torch.float32
    found.sum().backward()
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("lesions_only", [False, True])
def test_the_loss_of_exclusive_classes_is_the_sum_by_hand(lesions_only):
    logits, target, _ = drawn(1)
    logits = logits.double()
    found = DiceCrossEntropyLoss(True, 0.3, 0.7, smooth=2.0, lesions_only=lesions_only)(
        logits, target
    )
    for i in range(4):
        every = torch.cat([torch.zeros(1, 9, 11).double(), logits[i]])
        probability = every.exp() / every.exp().sum(0)
        true = torch.zeros(9, 11, dtype=torch.long)
        for c in (2, 1, 0):  # the first class is written last, so it wins
            true[target[i, c] > 0] = c + 1
        pixels = -probability.gather(0, true[None]).log().mean()
        classes = []
        for c in (1, 2, 3):
            there = (true == c).double()
            whole = probability[c].sum() + there.sum() + 2.0
            one = 1 - (2 * (probability[c] * there).sum() + 2.0) / whole
            classes.append(one if not lesions_only or there.any() else 0 * one)
        expected = 0.3 * torch.stack(classes).mean() + 0.7 * pixels
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-5)


def test_without_exclusive_classes_it_is_the_sum_of_dice_and_bce():
    logits, target, ignored = drawn(2)
    found = DiceCrossEntropyLoss(False, 0.3, 0.7, lesions_only=True)(logits, target, ignored)
    parts = (
        0.3 * DiceLoss(lesions_only=True)(logits, target, ignored),
        0.7 * BCELoss()(logits, target, ignored),
    )
    assert torch.allclose(found, sum(parts))


def test_for_one_class_a_softmax_with_the_background_is_a_sigmoid():
    logits, target, ignored = drawn(3)
    one = logits[:, :1], target[:, :1], ignored
    kinds = [DiceCrossEntropyLoss(exclusive=kind)(*one) for kind in (False, True)]
    assert torch.allclose(*kinds, atol=1e-6)


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_configured_loss_follows_the_module(exclusive):
    cfg = OmegaConf.create(
        {
            "module": {
                "exclusive": exclusive,
                "loss": OmegaConf.load(CONF / "module/loss/dice_cross_entropy.yaml"),
            }
        }
    )
    loss = instantiate(cfg.module.loss, _convert_="all", _execution_whitelist_=WHITELIST)
    assert isinstance(loss, DiceCrossEntropyLoss) and loss.exclusive is exclusive


class PlainLoss(nn.Module):
    """A loss as a user may have it."""

    def forward(self, logits, target):
        return F.mse_loss(logits, target.float(), reduction="none").flatten(1).mean(1)


def test_a_loss_of_a_user_that_cannot_leave_pixels_out_is_refused_if_there_are_some():
    logits, target, ignored = drawn()
    loss, plain = WeightedLoss({"a": PlainLoss(), "b": DiceLoss()}, {"a": 1, "b": 1}), PlainLoss()
    for each in (loss, plain):
        with pytest.raises(UserError, match="PlainLoss takes no argument ignored"):
            apply_loss(each, logits, target, ignored)
    assert torch.equal(apply_loss(plain, logits, target, 0 * ignored), plain(logits, target))
    assert torch.equal(apply_loss(plain, logits, target), plain(logits, target))


def test_terms_of_both_kinds_of_classes_are_refused():
    terms = {"a": DiceCrossEntropyLoss(exclusive=True), "b": DiceLoss()}
    with pytest.raises(UserError, match="the loss a is for exclusive classes and b is not"):
        WeightedLoss(terms, {"a": 1.0, "b": 1.0})
    loss = WeightedLoss({"a": terms["a"]}, {"a": 1.0})
    assert loss.exclusive and not WeightedLoss({"b": DiceLoss()}, {"b": 1.0}).exclusive


def test_a_training_step_leaves_the_ignored_pixels_out_also_of_auxiliary_outputs():
    logits, target, ignored = drawn()

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 1)

        def forward(self, image):
            return self.first(image), self.second(image)

    loss = DiceLoss()
    module = SegmentationModule(
        classes=["a", "b", "c"],
        net=Two(),
        loss=loss,
        optimizer=partial(torch.optim.SGD, lr=0.1),
        auxiliary_weight=0.5,
    )
    module.log = lambda *_, **__: None
    image = (logits[:, :1] * 20 + 100).clamp(0, 255).byte()
    batch = {"image": image, "mask": target, "ignored": ignored}
    first, second = module(image)
    expected = (loss(first, target, ignored) + 0.5 * loss(second, target, ignored)).mean()
    assert module.training_step(batch, 0).item() == pytest.approx(expected.item())
    plain = {"image": image, "mask": target}
    assert module.training_step(plain, 0).item() != pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("sizes", [[(5, 7), (5, 7)], [(5, 7), (6, 4)]])
def test_a_batch_holds_the_ignored_pixels_as_it_holds_the_truth(sizes):
    samples = [
        {
            "id": str(i),
            "group": str(i),
            "image": torch.zeros(1, 8, 8, dtype=torch.uint8),
            "mask": torch.zeros(2, 8, 8, dtype=torch.uint8),
            "ignored": torch.full((1, 8, 8), i, dtype=torch.uint8),
            "truth": torch.zeros(2, *size, dtype=torch.uint8),
            "truth_ignored": torch.full((1, *size), i, dtype=torch.uint8),
            "content": ContentBox(0, 0, 8, 8),
        }
        for i, size in enumerate(sizes)
    ]
    batch = collate(samples)
    assert batch["ignored"].shape == (2, 1, 8, 8) and batch["ignored"][1].all()
    assert type(batch["truth_ignored"]) is type(batch["truth"])
    for i, size in enumerate(sizes):
        assert batch["truth_ignored"][i].shape == (1, *size)
        assert (batch["truth_ignored"][i] == i).all()
