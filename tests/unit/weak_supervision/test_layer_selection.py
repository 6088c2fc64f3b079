"""Tests of choosing the mapped layers: a default is found and unknown layers are refused."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from datamodules.errors import UserError
from lightning_modules.networks.classification import build_classifier
from weak_supervision.cam import ClassActivationMaps, compute_cam


@pytest.mark.parametrize(
    ("library", "architecture", "layer"),
    [
        ("timm", "resnet10t", "layer4"),
        ("torchvision", "resnet18", "layer4"),
        ("torchvision", "mobilenet_v3_small", "features"),
    ],
)
def test_the_last_stage_is_found(images, library, architecture, layer):
    made = build_classifier(library, {"name": architecture, "weights": None}).eval()
    assert np.array_equal(
        compute_cam(ClassActivationMaps(), made, images)[1],
        compute_cam(ClassActivationMaps(layers=layer), made, images)[1],
    )
    wrapped = nn.Sequential(made)  # as adapters wrap it
    assert compute_cam(ClassActivationMaps(), wrapped, images)[1].shape == (4, 8, 4)


def test_a_network_without_a_stage_is_refused():
    with pytest.raises(
        UserError, match=r"layers=null finds no stage in Sequential.*names such as 0, 1"
    ):
        compute_cam(
            ClassActivationMaps(),
            nn.Sequential(nn.Flatten(), nn.Linear(4, 1)),
            torch.rand(1, 1, 2, 2),
        )


@pytest.mark.parametrize(
    ("words", "wrong", "mend"),
    [
        ({"method": "GradCam"}, "method=GradCam is not a method", "GradCAM or"),
        (
            {"layers": "layer5"},
            "names layer5, which the network does not have",
            "did you mean layer",
        ),
        ({"layers": []}, "names no layer", "write null"),
        ({"layers": "lists"}, "names lists, a list of layers without an output", "lists.0"),
        ({"layers": "global_pool"}, "names global_pool, which gives no map", "name a stage"),
        (
            {"layers": "layer4.0.drop_path"},
            "names layer4.0.drop_path, which the network does not have",
            "did you mean",
        ),
        ({"layers": "layer3.0.conv1.weight"}, "which the network does not have", "layer3.0.conv1"),
    ],
)
def test_wrong_words_are_refused_with_a_mend(net, images, words, wrong, mend):
    net = deepcopy(net)
    net.lists = nn.ModuleList([nn.Identity()])
    with pytest.raises(UserError) as refusal:
        compute_cam(ClassActivationMaps(**words), net, images)
    assert (
        wrong in str(refusal.value)
        and mend in str(refusal.value)
        and "\n" not in str(refusal.value)
    )
