"""Tests of recognizing a launcher: ranks agree on a folder and trials inherit no other run."""

import os
import time

import psutil
import pytest
import torch
from omegaconf import OmegaConf

from datamodules.errors import UserError
from engine.runner import prepare_process
from lightning_modules import launch_environment
from lightning_modules.hardware import check_devices, ddp_strategy
from lightning_modules.networks.upernet import UperNet

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "4",
    "GROUP_WORLD_SIZE": "1",
}
SRUN = {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_JOB_ID": "17"}


@pytest.fixture
def environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC")) or name in launch_environment.RANK_VARIABLES:
            monkeypatch.delenv(name)

    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_alone_nothing_has_to_be_agreed_on(environment):
    assert (
        launch_environment.shared_run_name() is None
        and launch_environment.rank() == 0
        and not launch_environment.is_requeued()
    )
    environment(SLURM_JOB_ID="17", SLURM_NTASKS="1", SLURM_PROCID="0")  # one task of a batch job
    assert launch_environment.shared_run_name() is None


def test_ranks_of_torchrun_name_the_folder_by_when_it_was_started(environment):
    environment(**TORCHRUN)
    agent = psutil.Process(os.getppid()).create_time()
    started = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(agent))
    assert (
        launch_environment.shared_run_name() == f"{started}_{os.getppid()}"
        and launch_environment.rank() == 3
    )  # two torchruns of one second have other numbers
    environment(GROUP_WORLD_SIZE="2")
    with pytest.raises(ValueError, match=r"hydra\.run\.dir"):
        launch_environment.shared_run_name()


def test_tasks_of_srun_name_it_by_their_job_so_that_a_requeued_one_finds_it_again(environment):
    environment(**SRUN)
    assert (
        launch_environment.shared_run_name() == "slurm-17"
        and launch_environment.rank() == 2
        and not launch_environment.is_requeued()
    )
    environment(SLURM_RESTART_COUNT="1")
    assert launch_environment.is_requeued() and launch_environment.shared_run_name() == "slurm-17"


def test_a_trial_of_its_own_is_no_rank_of_another_run(environment):
    environment(**TORCHRUN, MASTER_ADDR="x", MASTER_PORT="1", KEPT="2")
    assert (
        launch_environment.env_without_rank().keys() & set(launch_environment.RANK_VARIABLES)
        == set()
        and launch_environment.env_without_rank()["KEPT"] == "2"
    )


def config(**trainer):
    return OmegaConf.create(
        {
            "trainer": (
                {"devices": 1, "num_nodes": 1, "accelerator": "auto", "strategy": "auto"} | trainer
            )
        }
    )


def test_more_gpus_than_there_are_are_refused_and_what_there_is_is_said(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(
        UserError, match=r"trainer\.devices=3, but this machine has 2 GPUs; set trainer\.devices=2"
    ):
        check_devices(config(devices=3))
    for fine in ({"devices": 2}, {"devices": "auto"}, {"devices": 3, "accelerator": "cpu"}):
        check_devices(config(**fine))


def test_without_a_gpu_processes_on_the_cpu_are_fine_and_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_devices(config(devices=3))
    with pytest.raises(UserError, match=r"finds no GPU.*trainer\.accelerator=cpu"):
        check_devices(config(accelerator="gpu"))
    assert (
        not launch_environment.is_multi_process(config())
        and launch_environment.is_multi_process(config(devices=3))
        and launch_environment.is_multi_process(config(num_nodes=2))
    )


@pytest.mark.parametrize(("devices", "rank", "warned"), [(9, 0, 1), (9, 3, 0), (2, 0, 0)])
def test_more_processes_than_cores_are_let_through_with_a_warning(
    devices, rank, warned, monkeypatch, capfd, environment
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setenv("RANK", str(rank))
    check_devices(config(devices=devices))
    assert capfd.readouterr().err.count("starts 9 processes on 2 cores") == warned


@pytest.mark.parametrize("cuda", [True, False])
def test_what_follows_from_the_devices_is_written_into_the_configuration(
    cuda, monkeypatch, tmp_path, environment
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 0))
    asked = {"precision": "auto", "sync_batchnorm": "auto"}
    fit = {"do": ["fit"], "evaluation_precision": "32-true"}
    place = {"paths": {"run": str(tmp_path / "run")}}
    cfg = OmegaConf.create({"trainer": {**config(devices=2).trainer, **asked}, **place, **fit})
    prepare_process(cfg)
    assert cfg.trainer.sync_batchnorm is cuda  # PyTorch's works on GPUs alone
    assert cfg.trainer.precision != "auto" and cfg.trainer.strategy == "auto"
    assert OmegaConf.load(tmp_path / "run/config.yaml").trainer.sync_batchnorm is cuda
    environment(RANK="1")
    place = {"paths": {"run": str(tmp_path / "other")}}
    other = OmegaConf.create({"trainer": {**config().trainer, **asked}, **place, **fit})
    prepare_process(other)
    assert not (tmp_path / "other/config.yaml").exists()  # the first rank writes


def test_gradients_go_out_in_several_buckets_of_at_most_25_megabytes():
    sizes = {
        megabytes: ddp_strategy(torch.nn.Linear(1024, 256 * megabytes, bias=False))["bucket_cap_mb"]
        for megabytes in (1, 12, 60, 300)
    }
    assert sizes == {1: 1, 12: 2, 60: 10, 300: 25}


def test_every_batchnorm_of_the_net_is_one_of_all_gpus():
    """What Lightning does where sync_batchnorm is true."""
    from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm

    net = UperNet(
        {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
        hidden_size=16,
    )
    of_one = [
        name for name, layer in net.named_modules() if isinstance(layer, torch.nn.BatchNorm2d)
    ]
    synced = TorchSyncBatchNorm().apply(net)
    assert (
        of_one
        and [
            name
            for name, layer in synced.named_modules()
            if isinstance(layer, torch.nn.SyncBatchNorm)
        ]
        == of_one
    )
