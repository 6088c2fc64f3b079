"""Tests of the description of the devices a run ran on."""

from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer

from datamodules.sampling.config import EpochConfig
from reporting.live_run import describe_devices


def of(batch_sizes=(4, 4, 4), **words):
    """A trainer that starts no process, with a plan of one batch size an epoch."""
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        max_epochs=len(batch_sizes),
        **words,
    )
    trainer.datamodule = SimpleNamespace(
        epoch_config=lambda epoch: EpochConfig(64, batch_sizes[epoch])
    )
    return trainer


def test_one_process():
    found = describe_devices(of())
    assert (
        found["processes"],
        found["nodes"],
        found["devices_per_node"],
        found["accelerator"],
    ) == (1, 1, 1, "cpu")
    assert (
        found["strategy"] == "SingleDevice"
        and found["precision"] == "32-true"
        and found["batch_sizes"] == [4]
        and found["accumulated"] == 1
    )
    threads = torch.get_num_threads()
    assert found["names"] == {f"CPU ({threads} thread{'s' if threads > 1 else ''})": 1}


@pytest.mark.filterwarnings("ignore")
def test_several_processes_on_several_nodes():
    found = describe_devices(
        of(
            (4, 2),
            devices=3,
            num_nodes=2,
            strategy="ddp",
            precision="bf16-mixed",
            accumulate_grad_batches=5,
        )
    )
    assert (found["processes"], found["nodes"], found["devices_per_node"], found["strategy"]) == (
        6,
        2,
        3,
        "DDP",
    )
    assert list(found["names"].values()) == [3] and found["precision"] == "bf16-mixed"
    assert found["batch_sizes"] == [4, 2] and found["accumulated"] == 5
