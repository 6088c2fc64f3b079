"""Tests of logins, weight hubs and Slurm jobs, without contacting any of them."""

import os

from engine.doctor import environment
from tests.unit.engine.doctor.conftest import STOPS, WARNS, config, only


def test_the_login_of_wandb_is_looked_for_and_not_shown(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    only(environment.check_wandb(config("logger=wandb")), WARNS, "there is no login", "wandb login")
    assert not environment.check_wandb(config()).issues
    assert not environment.check_wandb(config("logger=wandb", "logger.wandb.mode=offline")).issues
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password 5ecret\n")
    answer = environment.check_wandb(config("logger=wandb"))
    assert answer.values["login"] and not answer.issues and "5ecret" not in repr(answer)
    (tmp_path / "netrc").write_text("machine example.org\n  login user\n  password 5ecret\n")
    assert environment.check_wandb(config("logger=wandb")).issues
    monkeypatch.setenv("WANDB_API_KEY", "5ecret")
    assert not environment.check_wandb(config("logger=wandb")).issues and "5ecret" not in repr(
        environment.check_wandb(config())
    )


def test_pretrained_weights_need_a_hub_or_a_filled_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    only(
        environment.check_hub(config()),
        STOPS,
        "module.net.encoder.weights=imagenet asks for pretrained weights",
        "module.net.encoder.weights=null",
    )
    assert not environment.check_hub(config("module.net.encoder.weights=null")).issues
    (tmp_path / "own.pt").write_text("")
    assert not environment.check_hub(
        config(f"module.net.encoder.weights={tmp_path / 'own.pt'}")
    ).issues
    assert dict(environment.requested_weights(config("experiment=lora_pneumonia"))) == {
        "module.net.encoder.weights": "imagenet"
    }
    (tmp_path / "hub/models--timm--resnet34").mkdir(parents=True)
    assert (
        not environment.check_hub(config()).issues
        and environment.check_hub(config()).values["models"] == 1
    )
    monkeypatch.setenv("HF_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert not environment.check_hub(config()).issues


def test_a_slurm_job_of_another_shape_than_the_run(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    two = config("trainer.devices=2", "trainer.accelerator=cpu")
    assert not environment.check_slurm(two).issues
    for name, value in {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "4",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_NNODES": "1",
    }.items():
        monkeypatch.setenv(name, value)
    only(
        environment.check_slurm(two),
        STOPS,
        "SLURM_NTASKS_PER_NODE=4, but trainer.devices comes to 2",
        "trainer.devices=4",
    )
    assert not environment.check_slurm(
        config("trainer.devices=4", "trainer.accelerator=cpu")
    ).issues
    monkeypatch.setenv("SLURM_NNODES", "2")
    only(
        environment.check_slurm(config("trainer.devices=4", "trainer.accelerator=cpu")),
        STOPS,
        "SLURM_NNODES=2",
        "trainer.num_nodes=2",
    )
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert not environment.check_slurm(two).issues
