"""Tests of files of weights: every format, and all that does not fit is refused."""

import collections
import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from datamodules.errors import UserError
from lightning_modules.networks import build_classifier, build_smp_network
from lightning_modules.pretrained.reading import block_of, read_weights


class Evil:
    """A pickle that would run a command when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def classifier(path, name="resnet18", **more):
    return build_classifier("timm", {"name": name, "weights": str(path)}, **more)


def encoder(path, name="resnet18", **more):
    return build_smp_network("Unet", {"name": name, "weights": str(path)}, **more)


@pytest.fixture(scope="module")
def state():
    return timm.create_model("resnet18").state_dict()


FORMATS = [(".safetensors", None), (".pth", None), (".bin", "state_dict"), (".pth", "model")]


@pytest.mark.parametrize(("suffix", "key"), FORMATS)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_every_format_is_read(suffix, key, prefix, state, tmp_path):
    path = tmp_path / f"w{suffix}"
    named = {f"{prefix}{name}": value.contiguous() for name, value in state.items()}
    if suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save({key: named, "epoch": 3} if key else named, path)
    found = read_weights(path, "key")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_counters_are_no_weights(state, tmp_path):
    older = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save(older, tmp_path / "older.pth")
    net = classifier(tmp_path / "older.pth", classes=1000, in_channels=3)
    assert torch.equal(net.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    smp_state = {name: value for name, value in older.items() if not name.startswith("fc.")}
    torch.save(smp_state, tmp_path / "encoder.pth")
    segmenter = encoder(tmp_path / "encoder.pth", in_channels=3)
    assert torch.equal(segmenter.encoder.bn1.running_var, state["bn1.running_var"])


def test_gray_images_sum_the_channels(state, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    wanted = state["conv1.weight"].sum(1, keepdim=True)
    for build in (classifier, encoder):
        net = build(tmp_path / "w.pth", in_channels=1)
        first = next(value for value in net.parameters() if value.ndim == 4)
        assert torch.equal(first, wanted)


def damaged(state, folder: Path) -> dict[str, tuple[Path, str]]:
    """Return files that must be refused, and what is said."""
    good = folder / "good.pth"
    torch.save(state, good)
    cases = {
        "half": (good.read_bytes()[: good.stat().st_size // 2], "the file is damaged or incompl"),
        "empty": (b"", "the file is empty"),
        "text": (b"hello, weights", "no file of torch.save or safetensors"),
        "html": (b"<html>404</html>", "no file of torch.save or safetensors"),
    }
    found = {}
    for name, (content, message) in cases.items():
        (folder / f"{name}.pth").write_bytes(content)
        found[name] = folder / f"{name}.pth", message
    save_file({"a": torch.ones(1000)}, folder / "whole.safetensors")
    whole = (folder / "whole.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(whole[:500])
    found["half safetensors"] = folder / "half.safetensors", "the file is damaged or incomplete"
    objects = {
        "list": ([1, 2], "holds no weights"),
        "number": ({"conv1.weight": 3.0}, "holds no weights"),
        "mixed": (state | {"fc.bias": [1.0]}, "'fc.bias' is no tensor but a list"),
        "nan": (
            state | {"fc.bias": torch.full((1000,), float("nan"))},
            "not finite .the first are in fc.bias",
        ),
        "zero": (
            {name: torch.zeros_like(value) for name, value in state.items()},
            "holds no trained weights",
        ),
        "constant": (
            {
                name: torch.full_like(value, 0.5) if value.ndim else value
                for name, value in state.items()
            },
            "all numbers are the same in",
        ),
        "ours": ({"state_dict": {"net.conv1.weight": torch.ones(1)}}, "init_from="),
    }
    for name, (content, message) in objects.items():
        torch.save(content, folder / f"{name}.pt")
        found[name] = folder / f"{name}.pt", message
    return found


def test_damaged_files_are_refused(state, tmp_path):
    for path, message in damaged(state, tmp_path).values():
        for build in (classifier, encoder):
            with pytest.raises(UserError, match=message) as refusal:
                build(path)
            assert str(refusal.value).startswith("module.net.encoder.weights=")


def test_code_in_a_pickle_is_never_run(tmp_path):
    marker = tmp_path / "was_run"
    torch.save({"conv1.weight": Evil(marker)}, tmp_path / "evil.pth")
    torch.save(
        {"conv1.weight": Evil(marker)},
        tmp_path / "evil_old.pth",
        _use_new_zipfile_serialization=False,
    )
    torch.save({"w": collections.Counter("a"), "net": torch.nn.Linear(1, 1)}, tmp_path / "net.pth")
    for name in ("evil", "evil_old", "net"):
        with pytest.raises(UserError, match="Python objects, which may run code"):
            classifier(tmp_path / f"{name}.pth")
    assert not marker.exists()


OTHER_NETWORKS = [  # (network of the file, network of the run, what is said)
    ("resnet34", "resnet18", "belongs to a larger network: it has 8 blocks"),
    ("resnet18", "resnet34", r"lacks \d+ of the \d+ weights|lacks \d+ of the network's weights"),
    ("resnet101", "resnet50", "belongs to a larger network: it has 17 blocks"),
    ("resnet50", "resnet18", "belongs to a|lacks"),
    ("tf_efficientnet_lite1", "tf_efficientnet_lite0", "belongs to a larger network"),
    ("tf_efficientnet_lite0", "resnet18", "lacks"),
    ("resnet18", "tf_efficientnet_lite0", "lacks|does not fit"),
    pytest.param(
        *("convnext_tiny", "convnext_small", "lacks|does not fit"), marks=pytest.mark.slow
    ),
]


@pytest.mark.parametrize(("theirs", "ours", "message"), OTHER_NETWORKS)
def test_weights_of_another_network_are_refused(theirs, ours, message, tmp_path):
    torch.save(timm.create_model(theirs).state_dict(), tmp_path / "w.pth")
    for build in (classifier, encoder):
        with pytest.raises(UserError, match=message):
            build(tmp_path / "w.pth", ours)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_a_prefix_of_all_names_is_said(name, tmp_path):
    whole = timm.create_model(name).state_dict()
    torch.save({f"backbone.{key}": value for key, value in whole.items()}, tmp_path / "p.pth")
    for build in (classifier, encoder):
        with pytest.raises(UserError, match=r"begin with 'backbone\.'; write a file of these"):
            build(tmp_path / "p.pth", name)
    segmenter = build_smp_network("Unet", {"name": name, "weights": None}, in_channels=3)
    torch.save(segmenter.state_dict(), tmp_path / "merged.pt")
    with pytest.raises(UserError, match=r"'encoder\.' \(\d+ others do not.*init_from=RUN"):
        encoder(tmp_path / "merged.pt", name)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_weights_of_another_image_size_are_resampled_by_timm(name, tmp_path):
    source = timm.create_model(name).eval()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    net = classifier(tmp_path / "w.pth", name, image_size=[96, 96], in_channels=3)
    key = "blocks.0.mlp.fc1.weight" if "vit" in name else "layers.0.blocks.0.mlp.fc1.weight"
    assert torch.equal(net.state_dict()[key], source.state_dict()[key])
    assert net(torch.zeros(1, 3, 96, 96)).shape == (1, 1)
    if "vit" in name:
        from timm.layers import resample_abs_pos_embed

        wanted = resample_abs_pos_embed(source.pos_embed, new_size=[6, 6])
        assert torch.allclose(net.pos_embed, wanted)
    if "swin" in name:
        segmenter = encoder(tmp_path / "w.pth", name, image_size=[96, 96], in_channels=3)
        stored = segmenter.encoder.state_dict()["model.layers_0.blocks.0.mlp.fc1.weight"]
        assert torch.equal(stored, source.state_dict()[key])


def test_torchvision_cannot_resample_and_refuses(tmp_path):
    from torchvision.models import get_model

    torch.save(get_model("vit_b_32", weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"network of another size.*image size"):
        build_classifier(
            "torchvision",
            {"name": "vit_b_32", "weights": str(tmp_path / "w.pth")},
            image_size=[96, 96],
            in_channels=3,
        )


def test_an_encoder_file_of_smp_is_read_too(tmp_path):
    source = encoder_without_weights("tf_efficientnet_lite0")
    torch.save(source.state_dict(), tmp_path / "w.pth")
    net = encoder(tmp_path / "w.pth", "tf_efficientnet_lite0", in_channels=3)
    theirs = net.encoder.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in source.state_dict().items())


def encoder_without_weights(name):
    return build_smp_network("Unet", {"name": name, "weights": None}, in_channels=3).encoder


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("layer1.0.downsample.0.weight", "layer1.0."),
        ("blocks.2.1.conv_pw.weight", "blocks.2.1."),
        ("stages_0.blocks.1.norm.weight", "stages_0.blocks.1."),
        ("layers.3.blocks.11.attn.qkv.bias", "layers.3.blocks.11."),
        ("conv_stem.weight", ""),
        ("head.fc.weight", ""),
    ],
)
def test_the_block_of_a_parameter(name, block):
    assert block_of(name) == block
