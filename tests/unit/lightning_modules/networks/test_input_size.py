"""Tests of image and batch sizes: networks built for one size, and refusals of others."""

import pytest
import torch

from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from lightning_modules.networks.classification import build_classifier
from lightning_modules.networks.input_size import check_input
from lightning_modules.networks.segmentation import build_smp_network
from lightning_modules.networks.upernet import UperNet

FIXED = [
    ("timm", "vit_tiny_patch16_224"),
    ("timm", "swin_tiny_patch4_window7_224"),
    ("timm", "coatnet_nano_rw_224"),
    ("torchvision", "vit_b_32"),
]
SWIN = {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4}


@pytest.mark.parametrize(("library", "architecture"), FIXED)
def test_a_network_of_one_size_is_built_for_that_of_the_images(library, architecture):
    net = build_classifier(
        library, {"name": architecture, "weights": None}, 2, image_size=64
    ).eval()
    assert net(torch.zeros(1, 1, 64, 64)).shape == (1, 2)


def test_an_encoder_of_one_size_is_built_for_that_of_the_images():
    arguments = {"encoder": {"name": "swin_tiny_patch4_window7_224", "weights": None}}
    net = build_smp_network("FPN", **arguments, image_size=[64, 96], in_channels=1).eval()
    assert net(torch.zeros(1, 1, 64, 96)).shape == (1, 1, 64, 96)


def test_a_network_of_any_size_is_built_as_before():
    torch.manual_seed(0)
    plain = build_classifier("timm", {"name": "resnet18", "weights": None}).state_dict()
    torch.manual_seed(0)
    sized = build_classifier(
        "timm", {"name": "resnet18", "weights": None}, image_size=64
    ).state_dict()
    assert all(torch.equal(value, sized[name]) for name, value in plain.items())


def small_smp(architecture, **arguments):
    return build_smp_network(
        architecture, {"name": "resnet18", "weights": None}, in_channels=1, classes=1, **arguments
    )


@pytest.mark.parametrize(
    ("build", "side"),
    [
        (lambda: small_smp("DeepLabV3Plus"), 64),
        (lambda: small_smp("PSPNet", encoder_depth=5, upsampling=32), 32),
        (lambda: small_smp("Unet"), 32),
        (lambda: UperNet(SWIN, hidden_size=16), 64),
    ],
)
def test_one_image_a_batch_is_refused_where_batchnorm_sees_one_value_and_two_are_not(build, side):
    net, size = build().train(), ImageSize(side, side)
    with pytest.raises(UserError, match=r"batch_size=1 gives BatchNorm .*datamodule\.batch_size=2"):
        check_input(net, 1, size, 1)
    check_input(net, 1, size, 2)
    check_input(net.eval(), 1, size, 1)


def test_networks_that_learn_from_one_image_are_let_through():
    check_input(UperNet(SWIN, hidden_size=16, norm="group"), 1, ImageSize(64, 64), 1)
    check_input(small_smp("FPN"), 1, ImageSize(64, 64), 1)


def test_a_size_that_does_not_fit_is_refused_with_one_that_does():
    net = build_classifier("timm", {"name": "vit_tiny_patch16_224", "weights": None})
    with pytest.raises(UserError, match=r"image_size=160 \(.*\); set image_size=224$"):
        check_input(net, 1, ImageSize(160, 160), 2)
    with pytest.raises(UserError, match=r"3-channel images .*correct .*datamodule\.channels"):
        check_input(small_smp("FPN"), 3, ImageSize(64, 64), 2)


def test_a_check_changes_nothing_of_the_network_and_of_the_random_state():
    net = UperNet({**SWIN, "drop_path_rate": 0.5}, hidden_size=16).train()
    before, random = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    windows = [getattr(layer, "window_size", None) for layer in net.modules()]
    check_input(net, 1, ImageSize(32, 32), 2)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert windows == [getattr(layer, "window_size", None) for layer in net.modules()]
