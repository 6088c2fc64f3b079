"""A small classifier and a batch of images on a non-square canvas."""

import pytest
import timm
import torch
from torch import nn


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = timm.create_model("resnet10t", in_chans=1, num_classes=3)
    for module in net.modules():
        if isinstance(
            module, nn.BatchNorm2d
        ):  # statistics and scales that differ by channel, as trained ones do
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(4, 1, 256, 128, generator=torch.Generator().manual_seed(1))
