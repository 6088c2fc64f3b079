"""Tests of the encoder of a network: its parameters, depths, learning rates, and frozen layers."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from timm.models import group_parameters
from torch import nn

from datamodules.errors import UserError
from lightning_modules.base import SupervisedModule
from lightning_modules.losses import BCELoss
from lightning_modules.networks.classification import build_classifier
from lightning_modules.networks.encoder import (
    check_rate_factors,
    find_encoder,
    layer_depths,
    rate_factors,
)
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from lightning_modules.networks.segmentation import build_smp_network
from lightning_modules.optim import build_param_groups

LORA = {"rank": 4, "alpha": 8}


class Labels(SupervisedModule):
    target = "label"


def classifier(name="resnet18", library="timm", classes=2):
    return build_classifier(library, {"name": name, "weights": None}, classes)


def segmenter(name="resnet18", architecture="Unet", **more):
    return build_smp_network(
        architecture, {"name": name, "weights": None}, in_channels=1, classes=1, **more
    )


def make_module(net, **more):
    return Labels(net, BCELoss(), partial(torch.optim.AdamW, lr=1.0), **more)


NETS = {
    "segmentation": (segmenter, lambda name: name.startswith("encoder.")),
    "timm": (classifier, lambda name: not name.startswith("fc.")),
    "a head inside a head": (
        partial(classifier, "convnext_atto"),
        lambda name: not name.startswith("head.fc."),
    ),
    "torchvision": (
        partial(classifier, "resnet18", "torchvision"),
        lambda name: not name.startswith("fc."),
    ),
    "a ViT whose layer encoder is only a part": (
        partial(classifier, "vit_b_32", "torchvision"),
        lambda name: not name.startswith("heads."),
    ),
    "frozen": (
        lambda: FrozenBackboneClassifier(classifier(), None),
        lambda name: not name.startswith("net.fc."),
    ),
}


@pytest.mark.parametrize("case", NETS)
def test_the_encoder_is_all_but_the_head_or_decoder(case):
    make, belongs = NETS[case]
    net = make()
    encoder = find_encoder(net)
    names = {name for name, _ in net.named_parameters()}
    assert set(encoder.named_parameters(net)) == {name for name in names if belongs(name)} < names


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "tf_efficientnet_lite0",
        "convnext_atto",
        "regnety_002",
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
        "densenet121",
        "xception41",
    ],
)
def test_depths_are_in_the_order_of_timm_s_layer_groups(name):
    net = classifier(name)
    own = layer_depths(net)
    theirs = group_parameters(net, net.group_matcher(coarse=False), reverse=True)
    heads = {part for part, _ in net.named_parameters()} - own.keys()
    assert min(own.values()) == 0 and max(own.values()) + 1 == max(theirs.values())
    assert {theirs[part] for part in heads} == {max(theirs.values())}
    pairs = sorted({(theirs[part], own[part]) for part in own})
    assert all(first[1] <= second[1] for first, second in pairwise(pairs))
    if name not in ("convnext_atto", "densenet121"):  # a norm of the head, a norm in a transition
        assert all(theirs[part] == own[part] for part in own)


def test_the_rates_of_a_resnet_by_hand():
    net = segmenter()
    named = [(f"net.{name}", value) for name, value in net.named_parameters()]
    groups = build_param_groups(net, named, encoder_lr_mult=0.5, layer_decay=0.8)
    factor = {id(value): group["lr_factor"] for group in groups for value in group["params"]}
    encoder = net.encoder
    expected = {  # a stem, eight blocks, the decoder
        encoder.conv1.weight: 9,
        encoder.bn1.bias: 9,
        encoder.layer1[0].conv1.weight: 8,
        encoder.layer1[1].bn2.weight: 7,
        encoder.layer2[0].downsample[0].weight: 6,
        encoder.layer4[1].conv2.weight: 1,
    }
    for parameter, steps in expected.items():
        assert factor[id(parameter)] == pytest.approx(0.5 * 0.8**steps)
    outside = [value for name, value in net.named_parameters() if "encoder." not in name]
    assert {factor[id(value)] for value in outside} == {1.0}
    assert len(factor) == len(list(net.parameters()))


def test_the_rates_of_a_classifier_are_those_of_timm():
    from timm.optim import param_groups_layer_decay

    net = classifier("tf_efficientnet_lite0")
    theirs = {
        id(value): group["lr_scale"]
        for group in param_groups_layer_decay(net, layer_decay=0.7)
        for value in group["params"]
    }
    factors = rate_factors(net, layer_decay=0.7)
    for name, value in net.named_parameters():
        assert factors.get(name, 1.0) == pytest.approx(theirs[id(value)])


def test_a_mix_transformer_embeds_each_stage_with_its_first_block():
    depths = layer_depths(segmenter("mit_b0"))
    assert depths["encoder.patch_embed1.proj.weight"] == 0
    assert (
        depths["encoder.patch_embed2.proj.weight"]
        == depths["encoder.block2.0.norm1.weight"]
        == depths["encoder.block1.1.norm1.weight"] + 1
    )
    assert depths["encoder.norm2.weight"] == depths["encoder.block2.1.norm1.weight"]


def test_a_rate_that_would_change_nothing_is_refused():
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3))
    for key in ("encoder_lr_mult", "layer_decay"):
        with pytest.raises(UserError, match=rf"module\.{key}=0\.5 needs .* set module\.{key}=1\.0"):
            make_module(plain, **{key: 0.5})
    with pytest.raises(UserError, match=r"layer_decay=0\.5 needs an encoder whose parameters are"):
        make_module(segmenter("dpn68"), layer_decay=0.5)
    for net in (FrozenBackboneClassifier(classifier(), None), segmenter(lora=LORA)):
        with pytest.raises(UserError, match=r"encoder_lr_mult=0\.5 would change nothing"):
            check_rate_factors(net, 0.5, 1.0)


def test_adapters_have_the_ordinary_rate():
    assert not any("lora_" in name for name in rate_factors(segmenter(lora=LORA), 0.5, 0.9))


def buffers(net):
    return {name: value.clone() for name, value in net.named_buffers() if "num_batches" not in name}


def changed(net, before):
    return {name for name, value in buffers(net).items() if not torch.equal(value, before[name])}


FROZEN = {
    "segmentation": segmenter,
    "a classifier": classifier,
    "reduced depth": partial(segmenter, encoder_depth=3, decoder_channels=[16, 8, 8]),
}


@pytest.mark.parametrize("case", FROZEN)
def test_a_frozen_encoder_keeps_its_statistics_and_is_trained_again(case):
    module = make_module(FROZEN[case]())
    net, trained = module.net, {n for n, p in module.net.named_parameters() if p.requires_grad}
    encoder, image = find_encoder(net), torch.randn(4, 1, 64, 64)
    before = buffers(net)
    module.freeze_encoder(True)
    net(image).sum().backward()
    assert not any(encoder.contains(name) for name in changed(net, before))
    moved = {name for name, value in net.named_parameters() if value.grad is not None}
    assert moved == {name for name in trained if not encoder.contains(name)}
    module.freeze_encoder(False)
    assert {n for n, p in net.named_parameters() if p.requires_grad} == trained
    net(image)
    assert any(encoder.contains(name) for name in changed(net, before))
    module.eval()
    module.freeze_encoder(True)
    assert not any(layer.training for layer in net.modules())  # the mode stays


def test_batchnorm_with_frozen_parameters_keeps_its_statistics_in_every_network():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False))
    net[1].requires_grad_(False)
    module = make_module(net)
    assert [layer.training for layer in net] == [True, False, True]
    assert [layer.training for layer in module.eval().train().net] == [True, False, True]


def test_batchnorm_below_adapters_keeps_its_statistics():
    module = make_module(segmenter(lora=LORA))
    before = buffers(module.net)
    module.net(torch.randn(4, 1, 64, 64))
    moved = changed(module.net, before)
    assert moved and all(name.startswith("decoder.") for name in moved)
    assert module.net.encoder.training  # dropout of the adapters
