"""Tests of classifiers by name: heads, gray inputs, local weights and clear errors."""

import pytest
import torch

from datamodules.errors import UserError
from lightning_modules.networks.classification import build_classifier

HEADED = [
    ("timm", "tf_efficientnetv2_b0"),
    ("torchvision", "efficientnet_v2_s"),
    ("torchvision", "vit_b_32"),
]
UNKNOWN = [
    ("keras", "x", "must be timm or torchvision"),
    ("timm", "resnet1", "has no network"),
    ("torchvision", "resnet1", "choose resnet18 or"),
]


@pytest.mark.parametrize(("library", "architecture"), HEADED)
def test_gray_images_give_a_logit_a_class(library, architecture):
    size = 224 if architecture.startswith("vit") else 64
    assert build_classifier(library, {"name": architecture, "weights": None}, 3).eval()(
        torch.zeros(1, 1, size, size)
    ).shape == (1, 3)


@pytest.mark.parametrize(
    ("library", "architecture"), [("timm", "resnet18"), ("torchvision", "resnet18")]
)
def test_local_weights_of_a_color_network_see_gray_as_three_equal_channels(
    library, architecture, tmp_path
):
    color = build_classifier(
        library, {"name": architecture, "weights": None}, 7, in_channels=3
    ).eval()
    torch.save(color.state_dict(), tmp_path / "w.pt")
    gray = build_classifier(
        library, {"name": architecture, "weights": str(tmp_path / "w.pt")}, 7, in_channels=1
    ).eval()
    image = torch.randn(2, 1, 64, 64)
    assert torch.allclose(gray(image), color(image.repeat(1, 3, 1, 1)), atol=1e-4)
    other_head = build_classifier(
        library, {"name": architecture, "weights": str(tmp_path / "w.pt")}, 2, in_channels=3
    )
    assert (
        torch.equal(other_head.conv1.weight, color.conv1.weight) and other_head.fc.out_features == 2
    )


def test_mistakes_are_told_in_a_sentence(tmp_path):
    for library, architecture, said in UNKNOWN:
        with pytest.raises(UserError, match=said):
            build_classifier(library, {"name": architecture, "weights": None})
    with pytest.raises(
        UserError,
        match=(
            r"cannot be fetched .*name a file with module\.net\.encoder\.weights=PATH.*take an"
            r" encoder .*module/net/encoder=lite0.*module\.net\.encoder\.weights=null"
        ),
    ):
        build_classifier("timm", {"name": "tf_efficientnetv2_b0", "weights": "imagenet"})
    torch.save(
        build_classifier("timm", {"name": "resnet18", "weights": None}).state_dict(),
        tmp_path / "w.pt",
    )
    with pytest.raises(UserError, match=r"lacks \d+ of the \d+ weights of the network"):
        build_classifier("timm", {"name": "resnet34", "weights": str(tmp_path / "w.pt")})
    with pytest.raises(UserError, match="is not a file"):
        build_classifier("timm", {"name": "resnet34", "weights": "/nowhere/w.pt"})


def test_an_encoder_of_segmentation_is_no_classifier():
    for weights in (None, "imagenet"):
        with pytest.raises(UserError, match=r"mit_b2 is an encoder of .* for segmentation only"):
            build_classifier("timm", {"name": "mit_b2", "weights": weights})
