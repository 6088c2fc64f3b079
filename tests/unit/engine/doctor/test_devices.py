"""Tests of GPUs that are present, missing, unfit or too few, and of the precision chosen."""

import pytest

from engine.doctor import hardware
from tests.unit.engine.doctor.conftest import H100, STOPS, WARNS, config, only

ASKED = {  # GPUs, words, severity, what, mend
    "more than there are": (
        [H100, H100],
        "trainer.devices=3",
        STOPS,
        "trainer.devices=3, but there are 2 GPUs here",
        "trainer.devices=2",
    ),
    "more than one": (
        [H100],
        "trainer.devices=2",
        STOPS,
        "there is 1 GPU here",
        "trainer.devices=1",
    ),
    "one that is not there": (
        [H100, H100],
        "trainer.devices=[0,2]",
        STOPS,
        "there are 2 GPUs",
        "trainer.devices=2",
    ),
    "none is there": (
        [],
        "trainer.accelerator=gpu",
        STOPS,
        "there is no GPU here",
        "trainer.accelerator=auto",
    ),
    "none is asked for": (
        [],
        "trainer.devices=0",
        STOPS,
        "is no device at all",
        "trainer.devices=1",
    ),
    "more processes than cores": (
        [],
        "trainer.devices=64",
        WARNS,
        "starts 64 processes on 4 cores",
        "trainer.devices=4 or fewer",
    ),
    "no code for it": (
        [("P100", (6, 0), 79)],
        "trainer.devices=1",
        STOPS,
        "compute capability 6.0, for which this torch build has no code",
        "not 0",
    ),
    "held by another": (
        [("A100", (8, 6), 9)],
        "trainer.devices=1",
        WARNS,
        "9.0 GB free of 80.0 GB: another process",
        "CUDA_VISIBLE_DEVICES",
    ),
}


@pytest.mark.parametrize("case", list(ASKED))
def test_devices_that_are_not_as_asked(case, gpus, monkeypatch):
    monkeypatch.setattr(hardware, "allowed_cores", lambda: 4)
    cards, words, *said = ASKED[case]
    gpus(*cards)
    only(hardware.check_devices(config(words)), *said)


def test_devices_that_are_well(gpus, monkeypatch):
    monkeypatch.setattr(hardware, "allowed_cores", lambda: 4)
    gpus(H100, H100, H100)
    for words, number in (("2", 2), ("3", 3), ("auto", 3), ("-1", 3), ("[0,2]", 2), ("'0,2'", 2)):
        asked = config(f"trainer.devices={words}")
        assert not hardware.check_devices(asked).issues and hardware.n_devices(asked) == number, (
            words
        )
    gpus()
    for words, number in (("2", 2), ("auto", 1)):
        asked = config(f"trainer.devices={words}")
        assert not hardware.check_devices(asked).issues and hardware.n_devices(asked) == number, (
            words
        )


def test_a_gpu_that_torch_does_not_see(gpus, monkeypatch):
    gpus(driver=2)
    only(
        hardware.check_devices(config()),
        WARNS,
        "the driver knows 2 NVIDIA GPUs, but torch",
        "update the driver",
    )
    only(
        hardware.check_devices(config("trainer.accelerator=gpu")),
        STOPS,
        "the driver knows 2 NVIDIA GPUs",
        "pytorch.org",
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden on purpose
    assert not hardware.check_devices(config()).issues


def test_the_precision_and_why(gpus, monkeypatch):
    gpus(H100)
    assert (
        hardware.check_precision(config()).values["precision"] == "bf16-mixed"
        and not hardware.check_precision(config()).issues
    )
    gpus(("T4", (7, 5), 79))
    assert hardware.check_precision(config()).values["precision"] == "16-mixed"
    only(
        hardware.check_precision(config("trainer.precision=bf16-mixed")),
        WARNS,
        "7.5 does not multiply bfloat16",
        "trainer.precision=auto",
    )
    gpus()
    for native in (True, False):
        monkeypatch.setattr(
            "lightning_modules.hardware.cpu_has_fast_bf16", lambda native=native: native
        )
        monkeypatch.setattr(hardware, "cpu_has_fast_bf16", lambda native=native: native)
        assert hardware.check_precision(config()).values["precision"] == (
            "bf16-mixed" if native else "32-true"
        )
        assert (
            bool(hardware.check_precision(config("trainer.precision=bf16-mixed")).issues) != native
        )
    only(
        hardware.check_precision(config("trainer.precision=16-mixed")),
        WARNS,
        "16-mixed does not exist on a CPU",
        "trainer.precision=auto",
    )
