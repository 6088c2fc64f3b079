"""Tests of the findings that measured speeds lead to for a configuration."""

import json
from types import SimpleNamespace

import pytest

from engine.doctor import throughput
from engine.doctor.check_result import CheckResult, Issue
from engine.doctor.distributed import ProcessResult
from tests.unit.engine.doctor.conftest import H100, STOPS, WARNS, config, only


def lines(full: float, low: float, *loaders: tuple[int, float]) -> list[dict]:
    of = {"line": "step", "device": "cpu", "index": 0, "images": 4, "image_size": 256}
    rates = [
        {**of, "precision": "32-true", "images_per_second": full},
        {**of, "precision": "bf16-mixed", "images_per_second": low},
    ]
    return rates + [
        {"line": "loader", "workers": workers, "image_size": 256, "images_per_second": rate}
        for workers, rate in loaders
    ]


def test_what_the_numbers_say(monkeypatch):
    monkeypatch.setattr(throughput, "allowed_cores", lambda: 8)
    asked = config(
        "trainer.precision=bf16-mixed", "trainer.accelerator=cpu", "datamodule.num_workers=0"
    )

    def judged(*measured: object) -> tuple[str, list[Issue]]:
        said, findings = throughput.evaluate_benchmark(asked, lines(*measured))  # type: ignore[arg-type]
        return said["limit"], findings

    other = {
        "line": "network",
        "device": "cpu",
        "own": False,
        "name": "small U-Net",
        "parameters": 1e6,
        "why": throughput.TOO_MANY_PARAMETERS,
    }
    said, findings = throughput.evaluate_benchmark(asked, [other, *lines(10.0, 25.0, (0, 5.0))])
    assert (
        said["limit"].startswith("unknown") and not findings
    )  # a smaller network would blame the loader
    assert judged(10.0, 25.0, (0, 50.0)) == ("the step: the loader is 2.0 times as fast", [])
    limit, findings = judged(20.0, 10.0, (0, 50.0))
    assert limit == "the step: the loader is 5.0 times as fast"
    only(
        CheckResult(issues=tuple(findings)),
        WARNS,
        "bf16-mixed is chosen, but 10.0 images/s are fewer than the 20.0 of 32-true",
        "trainer.precision=32-true",
    )
    limit, findings = judged(10.0, 25.0, (0, 5.0), (3, 14.0))
    assert limit == "the loader: the step is 5.0 times as fast"
    only(
        CheckResult(issues=tuple(findings)),
        WARNS,
        "gives 5 images/s with 0 workers, and a device could take 25",
        "datamodule.num_workers=3",
    )
    only(
        CheckResult(issues=tuple(judged(10.0, 25.0, (0, 5.0))[1])),
        WARNS,
        "5 images/s",
        "try datamodule.num_workers=1",
    )
    monkeypatch.setattr(throughput, "allowed_cores", lambda: 0)
    only(
        CheckResult(issues=tuple(judged(10.0, 25.0, (0, 5.0))[1])),
        WARNS,
        "5 images/s",
        "make the augmentation lighter",
    )


def test_a_step_that_fails_or_does_not_fit(gpus):
    gpus(H100)
    asked = config("trainer.precision=bf16-mixed")
    own = {"line": "network", "device": "cuda", "own": True, "name": "UNet", "parameters": 1e6}
    failed = {
        "line": "failed",
        "of": "a step",
        "device": "cuda",
        "index": 0,
        "precision": "bf16-mixed",
        "images": 16,
        "image_size": 640,
        "why": "why",
    }
    (finding,) = throughput.evaluate_benchmark(asked, [own, {**failed, "memory": True}])[1]
    assert (
        finding.severity == STOPS
        and "16 images of 640 px in bf16-mixed does not fit" in finding.problem
        and "batch_size" in finding.fix
    )
    assert not throughput.evaluate_benchmark(
        asked, [own, {**failed, "memory": True, "precision": "32-true"}]
    )[1]  # which no run would take
    (finding,) = throughput.evaluate_benchmark(asked, [own, {**failed, "memory": False}])[1]
    assert (
        finding.severity == WARNS
        and "a step on the GPU in bf16-mixed fails (why)" in finding.problem
    )


@pytest.mark.parametrize(
    ("outcome", "severity", "what"),
    [
        (ProcessResult(-9, "", ""), STOPS, "killed by the system"),
        (ProcessResult(None, "", ""), WARNS, "took more than 120 s"),
        (ProcessResult(1, "", "ImportError: x"), WARNS, "ended early (ImportError: x)"),
        (ProcessResult(0, "", ""), None, ""),
    ],
)
def test_a_measurement_that_ends_early_keeps_what_it_had(outcome, severity, what, plain):
    said = json.dumps(lines(1.0, 2.0)[0])
    child = SimpleNamespace(
        result=lambda seconds, given: ProcessResult(
            outcome.code, f"a library's own words\n{said}\n", outcome.error
        )
    )
    answer = throughput.evaluate_speed(plain, child)
    assert answer.summary == {"step, CPU": "4 x 256 px: 32-true 1.0 images/s"}
    assert [finding.severity for finding in answer.issues] == ([severity] if severity else [])
    assert all(what in finding.problem for finding in answer.issues)
