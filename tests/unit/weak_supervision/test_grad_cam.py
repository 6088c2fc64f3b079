"""Tests of heat maps against the grad-cam library for batches, layouts and precisions."""

import numpy as np
import pytest
import pytorch_grad_cam
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from datamodules.image_size import ImageSize
from lightning_modules.ensemble import Ensemble
from weak_supervision.cam import CAM_METHODS, ClassActivationMaps, compute_cam, upsample

CANVAS = ImageSize(256, 128)
SWIN = {
    "img_size": (64, 32),
    "window_size": 2,
    "embed_dim": 8,
    "depths": (1, 1),
    "num_heads": (1, 1),
}
VIT = {"img_size": (64, 32), "depth": 2, "embed_dim": 24, "num_heads": 2}


def stretched(maps: np.ndarray) -> np.ndarray:
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / (high - low)


def library_s(method, net, layers, images, channel=0) -> np.ndarray:
    """The library end to end, image by image, at canvas size."""
    with getattr(pytorch_grad_cam, method)(
        net, [net.get_submodule(layer) for layer in layers]
    ) as cam:
        return np.concatenate(
            [cam(image[None], [ClassifierOutputTarget(channel)]) for image in images]
        )


@pytest.mark.parametrize("layer", ["layer4", "layer3"])
@pytest.mark.parametrize("method", CAM_METHODS)
def test_maps_are_the_library_s_own_up_to_its_shift(net, images, method, layer):
    _, heat = compute_cam(ClassActivationMaps(method, layer), net, images, channel=1)
    theirs = library_s(method, net, [layer], images, channel=1)
    stride = {"layer4": 32, "layer3": 16}[layer]
    assert heat.dtype == np.float32 and heat.shape == (
        4,
        CANVAS.height // stride,
        CANVAS.width // stride,
    )
    assert theirs.max() > 0.99 and np.abs(stretched(upsample(heat, CANVAS)) - theirs).max() < 1e-4
    assert heat.min() >= 0 and np.array_equal(heat.max((1, 2)), np.ones(4))


def test_several_layers_are_the_mean_of_each(net, images):
    both, third, fourth = (
        compute_cam(ClassActivationMaps("LayerCAM", layers), net, images)[1]
        for layers in (["layer3", "layer4"], "layer3", "layer4")
    )
    mean = (third + upsample(fourth, third.shape[1:])) / 2
    assert np.allclose(both, mean / mean.max((1, 2), keepdims=True), atol=1e-4)


@pytest.mark.parametrize("method", CAM_METHODS)
def test_a_batch_is_its_images_one_by_one_and_rows_are_some_of_them(net, images, method):
    maps = ClassActivationMaps(method)
    _, together = compute_cam(maps, net, images)
    alone = np.concatenate([compute_cam(maps, net, image[None])[1] for image in images])
    assert np.abs(together - alone).max() < 1e-4
    with maps.recording(net) as listener:
        net(images)
        assert np.abs(listener.compute(image_indices=[2, 0]) - together[[2, 0]]).max() < 1e-6
        net(images)
        assert listener.compute(image_indices=[]).shape == (0, *together.shape[1:])


def test_bf16_and_channels_last_are_close(net, images):
    _, plain = compute_cam(ClassActivationMaps("LayerCAM"), net, images)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits, low = compute_cam(
            ClassActivationMaps("LayerCAM"),
            net,
            images.contiguous(memory_format=torch.channels_last),
        )
    assert (
        logits.dtype == torch.bfloat16
        and low.dtype == np.float32
        and np.abs(plain - low).max() < 0.05
    )


def test_of_several_networks_and_mirrored_views_the_first_is_mapped(net, images):
    together = Ensemble(
        [net, timm.create_model("resnet10t", in_chans=1, num_classes=3).eval()], tta="hflip"
    )
    with torch.no_grad():
        _, heat = compute_cam(ClassActivationMaps(), together, images)
    assert np.allclose(heat, compute_cam(ClassActivationMaps(), net, images)[1], atol=1e-4)


@pytest.mark.parametrize("method", CAM_METHODS)
def test_no_evidence_is_zero_and_never_nan(net, images, method):
    net = timm.create_model("resnet10t", in_chans=1, num_classes=1).eval()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    _, heat = compute_cam(ClassActivationMaps(method), net, images)
    assert heat.shape == (4, 8, 4) and not heat.any()


@pytest.mark.parametrize(
    ("architecture", "more", "layer", "grid"),
    [
        (
            "swin_tiny_patch4_window7_224",
            SWIN,
            "layers.1",
            lambda output: output.permute(0, 3, 1, 2),
        ),
        (
            "vit_tiny_patch16_224",
            VIT,
            "blocks.1.norm1",
            lambda output: output[:, 1:].unflatten(1, (4, 2)).permute(0, 3, 1, 2),
        ),
    ],
)
def test_tokens_and_channels_last_are_maps_too(architecture, more, layer, grid):
    torch.manual_seed(0)
    net = timm.create_model(architecture, in_chans=1, num_classes=1, **more).eval()
    image = torch.rand(2, 1, 64, 32)
    _, heat = compute_cam(ClassActivationMaps("GradCAMElementWise", layer), net, image)
    with pytorch_grad_cam.GradCAMElementWise(net, [net.get_submodule(layer)], grid) as cam:
        theirs = cam(image, [ClassifierOutputTarget(0)] * 2)
    assert np.allclose(stretched(upsample(heat, (64, 32))), theirs, atol=1e-4)
    if "vit" in architecture:  # behind the last block only the class token counts
        assert not compute_cam(ClassActivationMaps(), net, image)[1].any()
