"""Tests of timing a step and a loader on the experiment's own network and precision."""

from types import SimpleNamespace

import pytest
import torch

from datamodules.image_size import ImageSize
from engine.doctor import throughput
from tests.unit.engine.doctor.conftest import SMALL_NET, STOPS, WARNS, config


class Clock:
    """A clock that only work moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_a_step_is_timed_by_the_median_after_the_warm_up(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    lasts = iter(
        [0.7, 0.9, 0.2, 0.2, 0.6, 0.2, 0.3, 9.0]
    )  # two warm up, then .2 .2 .6 .2 .3, until 3 s are over

    def one() -> None:
        clock.now += next(lasts)

    assert throughput._median_seconds(one, 3.0) == pytest.approx(0.2)
    assert clock.now == pytest.approx(3.1)
    slow = iter([5.0, 4.0, 1.0])
    clock.now = 0.0
    assert (
        throughput._median_seconds(lambda: setattr(clock, "now", clock.now + next(slow)), 3.0)
        == 4.0
    )  # too slow to warm up twice


def test_the_loader_is_timed_from_its_first_batch(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)

    class Loader:
        num_workers = 2

        def __iter__(self):
            clock.now += 60.0  # starting processes does not count
            while True:
                clock.now += 0.5
                yield {"image": torch.zeros(4)}

    served = Loader()
    assert throughput._measure_rate(
        SimpleNamespace(train_dataloader=lambda: served), 10.0
    ) == pytest.approx(4 / 0.5)
    assert served.timeout > 0  # a worker that is stuck does not hold up the doctor


def test_a_step_is_taken_in_the_precision_that_it_is_said_to_be_in():
    small = config(*SMALL_NET, "module.net.encoder.name=resnet18")
    module, said = throughput.build_network(small, "cpu")
    assert said["own"] and said["name"] == "UnetPlusPlus"
    before, seen = {name: value.clone() for name, value in module.state_dict().items()}, []
    module.net.register_forward_hook(lambda net, given, logits: seen.append(logits.dtype))
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        seen.clear()
        assert (
            throughput.step_images_per_second(
                module, throughput.StepBenchmark("cpu", 0, precision, 2, ImageSize(64, 96), 1), 0.0
            )
            > 0
        )
        assert len(seen) == 2 and set(seen) == {dtype}  # a warm-up and one that counts, in no time
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert (
        throughput.batch_size(16, ImageSize.from_config(128), "cpu") == 8
        and throughput.batch_size(16, ImageSize.from_config(640), "cpu") == 2
    )
    assert throughput.batch_size(16, ImageSize.from_config(640), "cuda") == 16


@pytest.mark.slow
def test_everything_is_measured_on_the_own_network_and_the_house_loader(monkeypatch):
    monkeypatch.setattr(throughput, "STEP_SECONDS", {"cpu": 0.0})
    monkeypatch.setattr(throughput, "LOADER_SECONDS", 0.1)
    monkeypatch.setattr(throughput, "available_devices", lambda: [("cpu", 0)])
    monkeypatch.setattr(throughput, "default_num_workers", lambda: 1)
    small = config(
        "experiment=lora_pneumonia",
        "image_size=64",
        "datamodule.cache_size=null",
        "module.net.encoder.name=tf_efficientnetv2_b0",
    )
    small.trainer.precision = "bf16-mixed"
    loaders = list(throughput.measure_loaders(small))
    assert [line["workers"] for line in loaders] == [0, 1] and all(
        line["images_per_second"] > 0 for line in loaders
    ), loaders
    first, *steps = throughput.measure_steps(small)
    assert first["line"] == "network" and first["own"] and first["name"] == "tf_efficientnetv2_b0"
    assert [line["precision"] for line in steps] == ["32-true", "bf16-mixed"] and all(
        line["line"] == "step" for line in steps
    ), steps
    said, _ = throughput.evaluate_benchmark(small, [*loaders, first, *steps])
    assert list(said) == ["network, CPU", "step, CPU", "loader", "limit"]


def test_a_network_that_cannot_be_built_is_told_and_a_small_one_measured(plain):
    module, said = throughput.build_network(config("module.net.encoder.name=resnet999"), "cpu")
    assert not said["own"] and said["parameters"] == sum(
        parameter.numel() for parameter in module.parameters()
    )
    _, findings = throughput.evaluate_benchmark(
        plain, [{"line": "network", "device": "cpu", **said}]
    )
    assert (
        findings[0].severity == STOPS
        and "resnet999" in findings[0].problem
        and findings[0].fix.startswith("choose resnet")
    )
    other = {**said, "refused": None, "why": "TypeError in Unet"}
    _, findings = throughput.evaluate_benchmark(
        plain, [{"line": "network", "device": "cpu", **other}]
    )
    assert findings[0].severity == WARNS and "TypeError in Unet" in findings[0].problem


def test_a_network_too_large_for_a_cpu_is_no_mistake(plain, monkeypatch):
    monkeypatch.setattr(throughput, "MAX_CPU_PARAMETERS", 1e6)
    _, said = throughput.build_network(plain, "cpu")
    assert (
        not said["own"]
        and "too many" in said["why"]
        and throughput.build_network(plain, "cuda")[1]["own"]
    )
    assert not throughput.evaluate_benchmark(plain, [{"line": "network", "device": "cpu", **said}])[
        1
    ]
