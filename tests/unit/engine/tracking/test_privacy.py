"""Tests of the configuration values that may leave the machine."""

import json

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from engine.tracking.privacy import UploadPolicy, redact_config
from run import CONF

PLACES = {f"paths.{name}": f"/home/smith/{name}" for name in ("data", "cache", "runs", "run")}


def test_a_real_configuration_keeps_its_numbers_and_methods_and_loses_its_places(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smith.pt").touch()
    words = [f"{key}={value}" for key, value in PLACES.items()]
    words += [
        "experiment=lora_pneumonia",
        "title=of smith",
        "module.net.encoder.weights=smith.pt",
        "init_from=runs/smith",
        "logger=wandb",
    ]
    words += ["+callbacks.feature_maps.ids=[smith,12]", "logger.wandb.notes=of smith"]
    with initialize_config_dir(str(CONF)):
        config = OmegaConf.to_container(compose("run", words), resolve=True)
    found = redact_config(config, UploadPolicy())
    assert (
        "smith" in json.dumps(config)
        and "smith" not in json.dumps(found)
        and "/" not in json.dumps(found).replace("val/f1", "")
    )
    assert (
        found["module"]["net"]["lora"]["rank"] == 8
        and found["module"]["net"]["encoder"]["name"] == "tf_efficientnetv2_s"
    )
    assert found["module"]["optimizer"]["_target_"] == "torch.optim.AdamW" and found["monitor"] == {
        "name": "val/f1",
        "mode": "max",
    }
    assert (
        "feature_maps" not in found["callbacks"]
        and found["datamodule"]["batch_size"] == config["datamodule"]["batch_size"]
    )
    whole = redact_config(config, UploadPolicy(ids=True, paths=True))
    assert whole["datamodule"]["root"] == "/home/smith/data/chest_xray" and whole["callbacks"][
        "feature_maps"
    ]["ids"] == ["smith", 12]
