"""Tests of UPerNet: logits of the library, local weights, layer depths and checkpointing."""

import pytest
import torch
from torch import nn
from transformers import SwinConfig, SwinModel, UperNetConfig, UperNetForSemanticSegmentation

from datamodules.errors import UserError
from lightning_modules.networks.upernet import SWIN_STAGES, UperNet
from lightning_modules.optim import build_param_groups

SWIN = {
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 2, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 4,
    "mlp_ratio": 2.0,
    "drop_path_rate": 0.0,
}


def net(**arguments) -> UperNet:
    torch.manual_seed(0)
    return UperNet(SWIN, hidden_size=16, **arguments)


def of_library(channels=3, labels=150) -> UperNetForSemanticSegmentation:
    torch.manual_seed(1)
    swin = SwinConfig(**SWIN, num_channels=channels, out_features=SWIN_STAGES)
    return UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=swin, hidden_size=16, num_labels=labels)
    ).eval()


def image(channels=1, size=64, batch=2) -> torch.Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A UPerNet for color images and 150 classes, as a hub would hold it."""
    place = tmp_path_factory.mktemp("hub") / "upernet"
    of_library().save_pretrained(place)
    return place


def test_logits_are_the_librarys_at_the_size_of_the_image(tmp_path):
    whole = of_library(channels=1, labels=3)
    whole.save_pretrained(tmp_path / "same")
    own = net(classes=3, weights=str(tmp_path / "same")).eval()
    x = image(size=96)
    assert torch.allclose(own(x), whole(x).logits, atol=1e-6) and own(x).shape == (2, 3, 96, 96)
    own.train()
    logits, auxiliary = own(x)
    assert logits.shape == auxiliary.shape == (2, 3, 96, 96)
    assert isinstance(net(auxiliary=False).train()(x), torch.Tensor)


def test_a_gray_image_is_seen_as_the_color_network_saw_it(folder):
    own, whole = net(weights=str(folder)).eval(), of_library()
    x = image()
    maps, theirs = own.encoder(x).feature_maps, whole.backbone(x.expand(-1, 3, -1, -1)).feature_maps
    assert len(maps) == 4 and all(
        torch.allclose(a, b, atol=1e-5) for a, b in zip(maps, theirs, strict=True)
    )
    fused = own.decode_head.fpn_bottleneck.conv.weight
    assert (
        torch.equal(fused, whole.decode_head.fpn_bottleneck.conv.weight)
        and own.decode_head.classifier.weight.shape[0] == 1
    )


def test_a_swin_alone_gives_the_backbone(tmp_path):
    torch.manual_seed(3)
    swin = SwinModel(SwinConfig(**SWIN))
    swin.save_pretrained(tmp_path / "swin")
    own = net(weights=str(tmp_path / "swin"))
    ours, theirs = own.encoder.swin.state_dict(), swin.state_dict()
    blocks = [name for name in theirs if ".blocks." in name]
    assert len(blocks) > 50 and all(torch.equal(ours[name], theirs[name]) for name in blocks)


def test_wrong_weights_are_refused_with_the_mend(folder, tmp_path):
    with pytest.raises(
        UserError,
        match=(
            r"nobody/nothing.*cannot be fetched.*name a folder with module\.net\.weights=PATH.*"
            r"module\.net\.weights=null"
        ),
    ):
        net(weights="nobody/nothing")
    with pytest.raises(UserError, match=r"is not a folder; name a folder with config.json"):
        net(weights=str(tmp_path / "missing"))
    with pytest.raises(
        UserError, match=r"depths=\[1, 2, 1, 1\].*window_size=4.*module\.net\.backbone"
    ):
        UperNet(
            SWIN | {"depths": [1, 1, 1, 1], "window_size": 7}, weights=str(folder), hidden_size=16
        )
    with pytest.raises(UserError, match="lacks"):
        UperNet(SWIN, weights=str(folder), hidden_size=24)
    from transformers import ResNetConfig, ResNetModel

    ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    ).save_pretrained(tmp_path / "resnet")
    with pytest.raises(UserError, match="is a resnet"):
        net(weights=str(tmp_path / "resnet"))
    with pytest.raises(UserError, match=r"module\.net\.backbone"):
        UperNet(SWIN | {"num_heads": [3, 3, 3, 3]})
    with pytest.raises(UserError, match=r"norm=layer"):
        net(norm="layer")


def test_weights_that_lack_a_layer_are_refused(folder, tmp_path):
    """The library would draw it at random."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "cut")
    state = load_file(tmp_path / "cut/model.safetensors")
    save_file(
        {name: value for name, value in state.items() if ".layers.2." not in name},
        tmp_path / "cut/model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match=r"lacks \d+ of the net's weights.*layers\.2"):
        net(weights=str(tmp_path / "cut"))


def test_every_trained_parameter_gets_a_gradient():
    """DDP waits for all of them."""
    own = net(classes=2).train()
    sum(logits.square().mean() for logits in own(image())).backward()
    assert [
        name for name, each in own.named_parameters() if each.requires_grad and each.grad is None
    ] == []


def test_group_normalization_takes_the_place_of_every_batchnorm_and_bears_one_image():
    own = net(norm="group").train()
    assert not [layer for layer in own.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [layer for layer in own.modules() if isinstance(layer, nn.GroupNorm)]
    assert own(image(batch=1))[0].shape == (1, 1, 64, 64)


def kept_bytes(own, x) -> tuple[int, list[torch.Tensor]]:
    """What autograd keeps for the backward pass, and the gradients."""
    kept = {}

    def pack(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = sum(logits.square().mean() for logits in own(x))
    total = sum(kept.values())
    loss.backward()
    return total, [each.grad for each in own.parameters() if each.grad is not None]


def test_checkpointing_keeps_less_and_changes_no_gradient():
    plain, less = net().train(), net(gradient_checkpointing=True).train()
    (much, gradients), (little, same) = (
        kept_bytes(each, image(size=128)) for each in (plain, less)
    )
    assert little < 0.75 * much
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, same, strict=True))


def test_layers_learn_the_slower_the_earlier_they_are():
    own = net()
    named = [(f"net.{name}", each) for name, each in own.named_parameters()]
    of = {
        id(each): group["lr_factor"]
        for group in build_param_groups(own, named, encoder_lr_mult=0.5, layer_decay=0.9)
        for each in group["params"]
    }
    blocks = [block for layer in own.encoder.swin.encoder.layers for block in layer.blocks]
    assert [of[id(block.mlp.fc1.weight)] for block in blocks] == pytest.approx(
        [0.5 * 0.9**n for n in (5, 4, 3, 2, 1)]
    )
    assert of[id(own.encoder.swin.embeddings.patch_embeddings.projection.weight)] == pytest.approx(
        0.5 * 0.9**6
    )
    assert of[id(own.encoder.swin.encoder.layers[0].downsample.reduction.weight)] == pytest.approx(
        0.5 * 0.9**5
    )
    assert of[id(own.encoder.hidden_states_norms["stage2"].weight)] == pytest.approx(0.5 * 0.9**3)
    assert of[id(own.decode_head.classifier.weight)] == 1.0
    assert len(of) == sum(each.requires_grad for each in own.parameters())
    with pytest.raises(UserError, match="layer_decay"):
        build_param_groups(nn.Linear(1, 1), [], layer_decay=0.9)
