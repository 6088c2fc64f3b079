"""Tests of the callback that freezes the encoder: its epochs, and what it refuses."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, SingleDeviceStrategy
from torch import nn

from callbacks.encoder_freezing import EncoderFreezing, freezes_encoder
from datamodules.errors import UserError
from lightning_modules.base import SupervisedModule
from lightning_modules.losses import BCELoss
from lightning_modules.networks.classification import build_classifier
from lightning_modules.networks.encoder import count_parameters
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from lightning_modules.networks.segmentation import build_smp_network


class Labels(SupervisedModule):
    target = "label"


def make_module(net=None):
    net = net or build_classifier("timm", {"name": "resnet18", "weights": None})
    return Labels(net, BCELoss(), partial(torch.optim.AdamW, lr=1.0))


def trainer(strategy=None):
    strategy = strategy or SingleDeviceStrategy(torch.device("cpu"))
    return SimpleNamespace(strategy=strategy, callbacks=[], current_epoch=0)


def is_frozen(module) -> bool:
    frozen = not module.net.conv1.weight.requires_grad
    assert module.net.layer1[0].training is not frozen and module.net.fc.weight.requires_grad
    return frozen


def test_the_epoch_alone_decides():
    callback, module, now = EncoderFreezing(epochs=2, max_epochs=4), make_module(), trainer()
    callback.setup(now, module, "fit")
    assert not is_frozen(module)  # the optimizer and DDP must see its parameters
    for epoch, frozen in ((0, True), (1, True), (2, False), (1, True), (3, False)):
        now.current_epoch = epoch
        callback.on_train_start(now, module)
        assert is_frozen(module) is frozen
    assert callback.state_dict() == {}


def test_without_a_last_epoch_it_is_frozen_before_the_optimizer_is_made_until_the_fit_ends():
    callback, module = EncoderFreezing(epochs=None, max_epochs=2), make_module()
    callback.setup(trainer(), module, "fit")
    groups = module.configure_optimizers().param_groups
    assert is_frozen(module) and sum(len(group["params"]) for group in groups) == 2
    callback.teardown(trainer(), module, "fit")
    assert not is_frozen(module)


def test_a_frozen_encoder_has_no_rates_and_no_adapters():
    for rates in ({"encoder_lr_mult": 0.1}, {"layer_decay": 0.8}):
        net = build_classifier("timm", {"name": "resnet18", "weights": None})
        module = Labels(net, BCELoss(), partial(torch.optim.AdamW, lr=1.0), **rates)
        (key,) = rates
        with pytest.raises(UserError, match=rf"module\.{key}=.*epochs=null freezes.*{key}=1\.0"):
            EncoderFreezing(epochs=None).setup(trainer(), module, "fit")
        EncoderFreezing(epochs=1).setup(trainer(), module, "fit")
    lora = {"rank": 2, "alpha": 2}
    adapted = FrozenBackboneClassifier(make_module().net, lora)
    encoder = {"name": "resnet18", "weights": None}
    segmenter = build_smp_network("Unet", encoder, lora=lora, in_channels=1)
    for net in (adapted, segmenter):
        for epochs in (1, None):
            with pytest.raises(UserError, match=r"would freeze the adapters of module\.net\.lora"):
                EncoderFreezing(epochs=epochs).setup(trainer(), make_module(net), "fit")


def test_trained_parameters_are_counted_without_an_encoder_that_is_frozen_for_good():
    net = make_module().net
    head, whole = 513, sum(value.numel() for value in net.parameters())
    assert count_parameters(net) == (whole, whole)
    callbacks = [EncoderFreezing(epochs=None)]
    assert count_parameters(net, freezes_encoder(callbacks)) == (head, whole)
    assert not freezes_encoder([EncoderFreezing(epochs=1)])


STRATEGIES = {
    "DDP that waits for all gradients": (DDPStrategy(), False),
    "DDP that looks for them": (DDPStrategy(find_unused_parameters=True), True),
    "FSDP": (FSDPStrategy(), False),
}


@pytest.mark.parametrize("case", STRATEGIES)
def test_a_strategy_that_needs_all_gradients_is_refused(case):
    strategy, works = STRATEGIES[case]
    if works:
        EncoderFreezing(epochs=1).setup(trainer(strategy), make_module(), "fit")
    else:
        with pytest.raises(UserError, match=r"find_unused_parameters=True.*strategy=auto"):
            EncoderFreezing(epochs=1).setup(trainer(strategy), make_module(), "fit")
    EncoderFreezing(epochs=None).setup(trainer(strategy), make_module(), "fit")


def test_a_network_without_an_encoder_to_freeze_is_refused():
    convolutions = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3))
    probe = FrozenBackboneClassifier(make_module().net, None)
    for net, said in ((convolutions, "a known encoder"), (probe, "frozen already")):
        with pytest.raises(UserError, match=said):
            EncoderFreezing(epochs=1).setup(trainer(), make_module(net), "fit")


@pytest.mark.parametrize("epochs", [4, 5])
def test_more_frozen_epochs_than_the_fit_has_are_refused(epochs):
    with pytest.raises(UserError, match=r"trainer\.max_epochs=4.*epochs=null"):
        EncoderFreezing(epochs=epochs, max_epochs=4)
    EncoderFreezing(epochs=epochs, max_epochs=-1)  # no limit
