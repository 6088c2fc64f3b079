"""Tests of adapters: adapted and frozen layers, checkpoints and merging without a change."""

import pytest
import torch
from torch import nn

from datamodules.errors import UserError
from lightning_modules.networks.classification import build_classifier, find_head
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from lightning_modules.networks.lora import layers_to_adapt

NETS = {
    ("timm", "tf_efficientnetv2_b0"): 64,
    ("timm", "vit_tiny_patch16_224"): 224,
    ("timm", "swin_tiny_patch4_window7_224"): 224,
    ("torchvision", "resnet18"): 64,
    ("torchvision", "swin_t"): 224,  # takes the weights of its attention without calling its layers
    ("torchvision", "vit_b_32"): 224,  # nn.MultiheadAttention
}
LORA = {"rank": 4, "alpha": 16, "dropout": 0.05}


def adapted(
    lora=LORA, checkpoint="whole", seed=0, architecture="tf_efficientnetv2_b0", classes=2
) -> FrozenBackboneClassifier:
    torch.manual_seed(seed)
    return FrozenBackboneClassifier(
        build_classifier("timm", {"name": architecture, "weights": None}, classes), lora, checkpoint
    )


def stir(net: nn.Module) -> None:
    """Gives adapters and head other weights than they start with, as training would."""
    for parameter in net.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.03)


@pytest.mark.parametrize(
    ("library", "architecture"),
    [
        pytest.param(*net, marks=[pytest.mark.slow] * (net[1] == "vit_b_32" or "swin_t" in net[1]))
        for net in NETS
    ],
)
def test_merging_gives_a_plain_network_with_the_same_logits(library, architecture):
    torch.manual_seed(0)
    plain = build_classifier(library, {"name": architecture, "weights": None}, 2)
    names = set(plain.state_dict())
    image = torch.randn(2, 1, *[NETS[library, architecture]] * 2)
    net = FrozenBackboneClassifier(plain, LORA).eval()
    before = net(image).detach()
    stir(net)
    after = net(image).detach()
    merged = net.merge_adapters()
    assert set(merged.state_dict()) == names
    assert (merged(image) - after).abs().max() <= 1e-4 and (after - before).abs().max() > 1e-3
    assert torch.equal(net(image), after)  # the adapted one is left as it was


@pytest.mark.parametrize(("library", "architecture"), NETS)
def test_every_adapter_and_the_head_learn_and_nothing_else_does(library, architecture):
    torch.manual_seed(0)
    plain = build_classifier(library, {"name": architecture, "weights": None}, 2)
    wanted, head = set(layers_to_adapt(plain, find_head(plain)[0])), find_head(plain)[0]
    net = FrozenBackboneClassifier(plain, LORA).eval()  # no dropout, no stochastic depth
    stir(net)
    net(torch.randn(2, 1, *[NETS[library, architecture]] * 2)).square().sum().backward()
    moved = {
        name
        for name, p in net.net.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert moved == {name for name, p in net.net.named_parameters() if p.requires_grad}
    adapters = {
        name.split(".lora_")[0].replace(".base_layer", "") for name in moved if "lora_" in name
    }
    assert {name.removesuffix(".out_proj") for name in adapters} == wanted
    assert {name for name in moved if "lora_" not in name} == {f"{head}.weight", f"{head}.bias"}


def test_grouped_convolutions_are_left_alone():
    net = build_classifier("timm", {"name": "tf_efficientnetv2_b0", "weights": None})
    chosen = {name: net.get_submodule(name) for name in layers_to_adapt(net, "classifier")}
    plain = {
        name
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups == 1
    }
    assert set(chosen) == plain and any(
        isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in net.modules()
    )


@pytest.mark.parametrize("lora", [LORA, None])
def test_batchnorm_of_the_frozen_body_keeps_its_statistics(lora):
    net = adapted(lora)
    before = {name: value.clone() for name, value in net.named_buffers()}
    net(torch.randn(4, 1, 64, 64))  # as it was made: Lightning never calls train() before a fit
    net.train()(torch.randn(4, 1, 64, 64))
    assert (
        all(torch.equal(value, before[name]) for name, value in net.named_buffers())
        and len(before) > 100
    )


def test_without_adapters_the_head_alone_is_trained():
    net = adapted(None)
    assert {name for name, p in net.net.named_parameters() if p.requires_grad} == {
        "classifier.weight",
        "classifier.bias",
    }
    assert not net.train().net.conv_stem.training and net.net.classifier.training


def test_an_adapter_alone_is_small_and_comes_back():
    one, other = adapted(checkpoint="adapter"), adapted(checkpoint="adapter")
    stir(one)
    state = one.state_dict()
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    assert sum(t.numel() for t in tensors) < sum(p.numel() for p in one.parameters()) / 3
    assert (
        not any(name.endswith("base_layer.weight") for name in state)
        and "net.bn1.running_mean" in state
    )
    other.load_state_dict(state)
    image = torch.randn(2, 1, 64, 64)
    assert torch.equal(one.eval()(image), other.eval()(image))


def test_an_adapter_of_other_frozen_weights_is_refused():
    state = adapted(checkpoint="adapter").state_dict()
    with pytest.raises(UserError, match=r"its frozen weights differ.*init_from"):
        adapted(checkpoint="adapter", seed=1).load_state_dict(state)
    whole = adapted().state_dict()
    other = adapted(seed=1)
    other.load_state_dict(whole)  # a whole one brings its own
    assert other.fingerprint() == adapted().fingerprint()


def test_the_body_of_a_plain_network_is_taken_and_its_head_is_not():
    torch.manual_seed(7)
    source = build_classifier("timm", {"name": "tf_efficientnetv2_b0", "weights": None}, 5)
    net = adapted()
    head = net.net.classifier.weight.clone()
    net.load_backbone(source.state_dict())
    assert torch.equal(
        net.net.conv_stem.base_layer.weight, source.conv_stem.weight
    ) and torch.equal(net.net.classifier.weight, head)
    assert torch.equal(net.net.bn1.running_var, source.bn1.running_var)
    with pytest.raises(UserError, match=r"it lacks \d+ of the \d+ weights"):
        net.load_backbone(
            build_classifier("timm", {"name": "resnet18", "weights": None}).state_dict()
        )


def test_what_cannot_be_adapted_is_said():
    with pytest.raises(UserError, match=r"lora\.rank=0 .* trains the head alone"):
        adapted(LORA | {"rank": 0})
    dense = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1))
    with pytest.raises(
        UserError,
        match=(
            r"no layer of Sequential is an ungrouped Conv2d or an attention; name linear layers in"
            r" module\.net\.lora\.targets"
        ),
    ):
        FrozenBackboneClassifier(dense, LORA)
    with pytest.raises(UserError, match=r"no layer of EfficientNet is named nothing_like_it"):
        adapted(LORA | {"targets": ["nothing_like_it"]})
    names = r"no layer of EfficientNet is named nope .*such as .*conv_pw"
    with pytest.raises(UserError, match=names):  # one of several names has no layer
        adapted(LORA | {"targets": ["conv_stem", "nope"]})
    with pytest.raises(UserError, match=r"bn1 of EfficientNet is a BatchNormAct2d, and only"):
        adapted(LORA | {"targets": ["bn1"]})


def test_a_rank_above_every_layer_is_refused_before_the_adapters_are_made():
    adapted(LORA | {"rank": 9, "targets": ["conv_stem"]})  # 32 x (1 x 3 x 3)
    with pytest.raises(UserError, match=r"lora\.rank=10 is more than .*at most 9.*rank=8"):
        adapted(LORA | {"rank": 10, "targets": ["conv_stem"]})
    with pytest.raises(UserError, match=r"lora\.rank=100000 is more than the smaller side"):
        adapted(LORA | {"rank": 100_000})
