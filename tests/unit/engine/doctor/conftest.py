"""Shared helpers of the doctor's tests: configurations, simulated GPUs and checks of findings."""

from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import run
from engine.doctor import hardware
from engine.doctor.check_result import CheckResult

Usage = namedtuple("Usage", "total used free")
SMALL_NET = [
    "image_size=64",
    "datamodule.batch_size=4",
    "module.net.encoder_depth=3",
    "module.net.decoder_channels=[16,8,8]",
]
H100 = ("H100", (9, 0), 79)
STOPS, WARNS = "stops a run", "warning"


def config(*words: str) -> DictConfig:
    """A resolved configuration, as the checks see it."""
    with initialize_config_dir(str(run.CONF)):
        whole = compose(
            "run", ["experiment=unetpp_brain_tumor", "title=test", "paths.run=run", *words]
        )
    parts = {name: whole[name] for name in whole if name != "hydra"}
    return OmegaConf.create(OmegaConf.to_container(OmegaConf.create(parts), resolve=True))


@pytest.fixture(scope="session")
def plain() -> DictConfig:
    return config()


def only(answer: CheckResult, severity: str, what: str, mend: str) -> None:
    """Exactly one finding, which says so."""
    (finding,) = answer.issues
    assert finding.severity == severity and what in finding.problem and mend in finding.fix, finding
    assert "\n" not in finding.message


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def gpus(monkeypatch):
    """Puts GPUs into the machine: (name, capability, free GB), of 80 GB each."""

    def put(*cards: tuple[str, tuple[int, int], int], driver: int | None = None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
        kind = [
            SimpleNamespace(name=name, major=major, minor=minor)
            for name, (major, minor), _ in cards
        ]
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: kind[index])
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: cards[index][1])
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda index: (cards[index][2] * 10**9, 80 * 10**9)
        )
        monkeypatch.setattr(
            torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90", "compute_90"]
        )
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(
            hardware, "nvidia_gpus", lambda: len(cards) if driver is None else driver
        )
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return put
