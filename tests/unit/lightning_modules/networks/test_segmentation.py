"""Tests of local encoder weights, color-to-gray weights and messages where weights are missing."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from datamodules.errors import UserError
from lightning_modules.hardware import best_precision, cpu_has_fast_bf16
from lightning_modules.instantiation import WHITELIST
from lightning_modules.networks.segmentation import build_smp_network
from lightning_modules.normalize import Normalize
from run import CONF

SMALL = {"encoder_depth": 3, "decoder_channels": [16, 8, 8], "classes": 1}


def test_a_local_file_gives_the_encoder_its_weights_and_gray_sees_the_same(tmp_path):
    color = build_smp_network("Unet", {"name": "resnet18", "weights": None}, in_channels=3, **SMALL)
    torch.save(color.encoder.state_dict(), tmp_path / "r18.pt")
    gray = build_smp_network(
        "Unet", {"name": "resnet18", "weights": str(tmp_path / "r18.pt")}, in_channels=1, **SMALL
    )
    image = torch.randn(2, 1, 64, 64)
    features = [
        net.eval().encoder(x)[-1]
        for net, x in ((color, image.expand(-1, 3, -1, -1)), (gray, image))
    ]
    assert torch.allclose(*features, atol=1e-5)


def test_other_weights_and_other_names_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.randn(64, 3, 7, 7)}, tmp_path / "part.pt")
    with pytest.raises(UserError, match="lacks"):
        build_smp_network(
            "Unet",
            {"name": "resnet18", "weights": str(tmp_path / "part.pt")},
            in_channels=3,
            **SMALL,
        )
    with pytest.raises(UserError, match="UnetPlusPlus"):
        build_smp_network("UNetPlus", {"name": "resnet18", "weights": None}, **SMALL)


def test_normalize_by_hand():
    image = torch.tensor([[[[0, 255], [51, 102]]]], dtype=torch.uint8)
    assert torch.allclose(
        Normalize([0.4], [0.2])(image), torch.tensor([[[[-2.0, 3.0], [-1.0, 0.0]]]]), atol=1e-6
    )
    roots = ((image / 255.0).sqrt() - 0.4) / 0.2
    assert torch.allclose(Normalize([0.4], [0.2], gamma=0.5)(image), roots, atol=1e-6)


def test_precision_follows_the_hardware():
    assert best_precision("cpu") == ("bf16-mixed" if cpu_has_fast_bf16() else "32-true")


@pytest.mark.parametrize("name", ["unet", "fpn", "pspnet", "deeplabv3plus"])
def test_configured_nets_give_logits_of_the_image_s_size(name):
    words = [
        "experiment=unetpp_brain_tumor",
        f"module/net={name}",
        "module.net.encoder.name=resnet18",
        "module.net.encoder.weights=null",
    ]
    with initialize_config_dir(str(CONF)):
        cfg = compose("run", words)
    net = instantiate(cfg.module.net, _convert_="all", _execution_whitelist_=WHITELIST)
    assert net.train()(torch.randn(2, 1, 64, 64)).shape == (2, 1, 64, 64)
    with torch.no_grad():
        assert net.eval()(torch.randn(1, 1, 96, 64)).shape == (1, 1, 96, 64)


SHALLOW = {
    "Unet": {"decoder_channels": [16, 8, 8]},
    "PSPNet": {"upsampling": 8},
    "FPN": {"upsampling": 1},
    "DeepLabV3Plus": {},
}


@pytest.mark.parametrize("architecture", SHALLOW)
def test_of_a_shallow_encoder_only_what_is_used_is_trained(architecture):
    """DDP waits for the gradient of every parameter that requires one."""
    net = build_smp_network(
        architecture,
        {"name": "resnet18", "weights": None},
        in_channels=1,
        classes=1,
        encoder_depth=3,
        **SHALLOW[architecture],
    )
    assert net.training and not any(parameter.grad is not None for parameter in net.parameters())
    assert all(
        layer.num_batches_tracked == 0
        for layer in net.modules()
        if isinstance(layer, torch.nn.BatchNorm2d)
    )
    net(torch.randn(2, 1, 64, 64)).sum().backward()
    assert [
        name
        for name, parameter in net.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ] == []
    assert not all(parameter.requires_grad for parameter in net.encoder.layer4.parameters())


@pytest.mark.parametrize(
    ("architecture", "name", "message"),
    [
        ("UnetPlusPlus", "mit_b2", "UnetPlusPlus does not work with the encoder mit_b2, which"),
        ("DeepLabV3Plus", "swin_tiny_patch4_window7_224", "whose stages cannot be dilated"),
        ("Unet", "vit_tiny_patch16_224", "whose stages do not halve the image"),
        ("Unet", "resnet999", "resnet999 is an encoder of neither .* choose resnet"),
    ],
)
@pytest.mark.parametrize("weights", [None, "auto"])
def test_an_encoder_that_does_not_fit_is_named_in_plain_words(architecture, name, message, weights):
    with pytest.raises(UserError, match=message):
        build_smp_network(architecture, {"name": name, "weights": weights}, in_channels=1)
