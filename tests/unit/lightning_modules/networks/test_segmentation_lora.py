"""Tests of LoRA in the encoder of a segmentation network: what learns, merging, checkpoints."""

from functools import partial

import pytest
import torch
from torch import nn

from datamodules.errors import UserError
from lightning_modules import checkpoint_io
from lightning_modules.losses import DiceLoss
from lightning_modules.networks.encoder import has_adapters
from lightning_modules.networks.lora import layers_to_adapt, merge_network
from lightning_modules.networks.segmentation import build_smp_network
from lightning_modules.networks.upernet import UperNet
from lightning_modules.segmentation import SegmentationModule

LORA = {"rank": 4, "alpha": 16, "dropout": 0.05}
SWIN = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}


def smp(name, architecture="Unet", lora=LORA, **more):
    encoder = {"name": name, "weights": None}
    return build_smp_network(
        architecture, encoder, image_size=64, lora=lora, in_channels=1, classes=1, **more
    )


def upernet(lora=LORA):
    return UperNet(SWIN, hidden_size=16, lora=lora)


SMALL = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
NETS = {
    "resnet18": partial(smp, "resnet18"),
    "resnet18 of reduced depth": partial(smp, "resnet18", **SMALL),
    "lite0": partial(smp, "tf_efficientnet_lite0", "UnetPlusPlus"),
    "swin": partial(smp, "swin_tiny_patch4_window7_224"),
    "mit": partial(smp, "mit_b0", "Segformer"),
    "FPN": partial(smp, "resnet18", "FPN"),
    "PSPNet": partial(smp, "resnet18", "PSPNet", upsampling=8, encoder_depth=3),
    "DeepLabV3Plus": partial(smp, "resnet18", "DeepLabV3Plus"),
    "UPerNet": upernet,
}


def stir(net: nn.Module) -> None:
    """Gives all trained layers other weights than they start with, as training would."""
    for parameter in net.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.03)


def image() -> torch.Tensor:
    return torch.randn(2, 1, 64, 64)


@pytest.mark.parametrize("case", NETS)
def test_only_adapters_and_decoder_learn_and_merging_gives_the_same_logits(case):
    torch.manual_seed(0)
    make = NETS[case]
    plain, net = make(lora=None), make()
    used = {name for name, value in plain.encoder.named_parameters() if value.requires_grad}
    wanted = {
        name
        for name in layers_to_adapt(plain.encoder, "")
        if any(each.startswith(f"{name}.") for each in used)
    }
    stir(net)
    net.eval()
    net(image()).square().sum().backward()
    moved = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    trained = {name for name, value in net.named_parameters() if value.requires_grad}
    assert {n for n in trained - moved if not n.startswith("auxiliary_head.")} == set()
    inside = {name for name in trained if name.startswith("encoder.")}
    assert inside and all(".lora_" in name for name in inside)
    adapted = {name.removeprefix("encoder.").split(".lora_")[0] for name in inside}
    assert adapted == wanted
    assert not any(".lora_" in n for n in net.state_dict().keys() - trained)  # no idle adapter
    before = {name for name, value in plain.named_parameters() if not name.startswith("encoder.")}
    assert {name for name in trained if not name.startswith("encoder.")} == before

    picture = image()
    merged = merge_network(net)
    assert not has_adapters(merged) and set(merged.state_dict()) == set(plain.state_dict())
    assert torch.allclose(merged(picture), net(picture), atol=1e-3, rtol=1e-3)
    assert has_adapters(net) and merge_network(plain) is plain


def test_targets_are_names_or_their_ends():
    net = smp("resnet18", lora=LORA | {"targets": ["conv2", "layer1.0.conv1"]}, **SMALL)
    adapted = {name.split(".lora_")[0] for name, p in net.named_parameters() if ".lora_" in name}
    assert adapted == {
        "encoder.layer1.0.conv1",
        *(f"encoder.layer{stage}.{block}.conv2" for stage in (1, 2) for block in (0, 1)),
    }
    with pytest.raises(UserError, match=r"no layer of ResNetEncoder is named nothing_like_it"):
        smp("resnet18", lora=LORA | {"targets": ["nothing_like_it"]})
    with pytest.raises(UserError, match=r"no layer of ResNetEncoder is named layer4\.0\.conv1"):
        smp("resnet18", lora=LORA | {"targets": ["layer4.0.conv1"]}, **SMALL)  # it is not used


def make_module(net):
    optimizer = partial(torch.optim.AdamW, lr=1e-3)
    return SegmentationModule(
        classes=["lesion"], evaluation_size=64, net=net, loss=DiceLoss(), optimizer=optimizer
    )


@pytest.mark.parametrize("case", ["resnet18 of reduced depth", "swin", "UPerNet"])
def test_init_from_a_run_of_the_plain_network_fills_one_with_adapters(case, tmp_path):
    plain, adapted = make_module(NETS[case](lora=None)), make_module(NETS[case]())
    path = tmp_path / "plain.ckpt"
    torch.save({"state_dict": plain.state_dict()}, path)
    assert checkpoint_io.load_weights(adapted, path)
    picture = image()
    assert torch.allclose(adapted.eval().net(picture), plain.eval().net(picture), atol=1e-6)

    stir(adapted.net)
    torch.save({"state_dict": adapted.state_dict()}, path)
    again = make_module(NETS[case]())
    checkpoint_io.load_weights(again, path)
    assert torch.equal(again.eval().net(picture), adapted.net(picture))
    with pytest.raises(UserError, match="belongs to another network"):
        checkpoint_io.load_weights(plain, path)


def test_init_from_another_network_is_refused(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": make_module(smp("resnet18", lora=None)).state_dict()}, path)
    with pytest.raises(UserError, match="belongs to another network"):
        checkpoint_io.load_weights(make_module(smp("resnet18", **SMALL)), path)
