"""Tests of replacing learned weights by random ones, which changes nothing else."""

import copy

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from weak_supervision.baselines import randomize_weights

TOKENS = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
    "init_values": 0.1,
}
NETS = {
    "resnetrs": lambda: timm.create_model("resnetrs50", num_classes=1, layers=(1, 1, 1, 1)),
    "tokens": lambda: timm.create_model("vit_tiny_patch16_224", num_classes=1, **TOKENS),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    "smp": lambda: smp.Unet(
        "resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 8)
    ),
}


def learned(build):
    """Every parameter and BatchNorm statistic far from where any initialization puts it."""
    torch.manual_seed(1)
    net = build()
    with torch.no_grad():
        for tensor in [*net.parameters(), *(b for n, b in net.named_buffers() if "running" in n)]:
            tensor.copy_(5 + torch.rand_like(tensor))
    return net


@pytest.mark.parametrize("name", NETS)
def test_every_number_is_drawn_anew_and_the_original_stays(name):
    net = learned(NETS[name])
    before = copy.deepcopy(net.state_dict())
    drawn = randomize_weights(net, seed=3)
    for key, parameter in drawn.named_parameters():
        assert parameter.isfinite().all() and (parameter != before[key]).all(), key
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    again, other = (
        randomize_weights(net, seed=3).state_dict(),
        randomize_weights(net, seed=4).state_dict(),
    )
    assert all(torch.equal(value, again[key]) for key, value in drawn.state_dict().items())
    assert any(not torch.equal(value, other[key]) for key, value in drawn.state_dict().items())


def test_what_can_be_reset_is_as_new_and_what_cannot_keeps_its_mean_and_spread():
    net = learned(NETS["tokens"])
    with torch.no_grad():
        net.pos_embed.copy_(3 + 0.5 * torch.randn_like(net.pos_embed))
    drawn = randomize_weights(net).requires_grad_(False)
    assert (
        drawn.patch_embed.proj.weight.abs().max() <= (3 * 8 * 8) ** -0.5
        and (drawn.norm.weight == 1).all()
        and (drawn.norm.bias == 0).all()
    )
    assert drawn.pos_embed.mean().item() == pytest.approx(
        3, abs=0.15
    ) and drawn.pos_embed.std().item() == pytest.approx(0.5, rel=0.2)
    assert (
        abs(
            torch.corrcoef(
                torch.stack([drawn.pos_embed.flatten(), net.pos_embed.detach().flatten()])
            )[0, 1]
        )
        < 0.2
    )


def test_dtype_memory_format_flags_and_the_random_state_are_kept():
    net = learned(NETS["smp"]).to(torch.bfloat16).to(memory_format=torch.channels_last).eval()
    net.encoder.conv1.weight.requires_grad_(False)
    net.decoder.train()
    state = torch.get_rng_state()
    drawn = randomize_weights(net)
    assert torch.equal(state, torch.get_rng_state())
    for one, two in zip(net.parameters(), drawn.parameters(), strict=True):
        assert (one.dtype, one.stride(), one.requires_grad, one.device) == (
            two.dtype,
            two.stride(),
            two.requires_grad,
            two.device,
        )
    assert [m.training for m in net.modules()] == [m.training for m in drawn.modules()]


def test_statistics_are_reset_or_the_mean_over_the_batches_given():
    net = learned(NETS["resnetrs"]).eval()
    plain = randomize_weights(net)
    assert (plain.conv1[1].running_mean == 0).all() and (plain.conv1[1].running_var == 1).all()
    batches = [torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    counted = randomize_weights(net, batches=batches)
    with torch.no_grad():
        before = [counted.conv1[0](batch) for batch in batches]
    assert torch.allclose(
        counted.conv1[1].running_mean,
        torch.stack([b.mean((0, 2, 3)) for b in before]).mean(0),
        atol=1e-5,
    )
    assert torch.allclose(
        counted.conv1[1].running_var,
        torch.stack([b.var((0, 2, 3)) for b in before]).mean(0),
        atol=1e-5,
    )
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), counted.parameters(), strict=True)
    )
    assert counted.bn1.momentum == net.bn1.momentum and not any(
        module.training for module in counted.modules()
    )
    with torch.no_grad():
        spread = [each.forward_features(batches[0]).std().item() for each in (plain, counted)]
    assert spread[0] < 0.1 < 0.3 < spread[1] < 3
