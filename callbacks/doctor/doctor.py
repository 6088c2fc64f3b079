"""do=doctor: run every check, print what was found and what is wrong, and write doctor.json."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from omegaconf import DictConfig, OmegaConf

from callbacks.doctor.devices import check_devices, check_precision
from callbacks.doctor.exchange import check_gloo, check_nccl
from callbacks.doctor.finding import Check, CheckResult, Issue, sort_by_severity
from callbacks.doctor.folders import check_cache_folder, check_data_folder, check_runs_folder
from callbacks.doctor.machine import (
    check_cores,
    check_memory,
    check_open_files,
    check_shared_memory,
)
from callbacks.doctor.page import print_report
from callbacks.doctor.services import check_hub, check_slurm, check_wandb
from callbacks.doctor.software import check_commit, check_packages
from callbacks.doctor.speed import SPEED_SECONDS, evaluate_speed, start_benchmark
from callbacks.report.content import write_json
from datamodules.refusal import UserError

LOOKING: dict[str, Check] = {
    **{
        "cores": check_cores,
        "memory": check_memory,
        "shared_memory": check_shared_memory,
        "open_files": check_open_files,
    },
    **{
        "devices": check_devices,
        "precision": check_precision,
        "gloo": check_gloo,
        "nccl": check_nccl,
    },
    **{"data": check_data_folder, "cache": check_cache_folder, "runs": check_runs_folder},
    **{
        "packages": check_packages,
        "commit": check_commit,
        "wandb": check_wandb,
        "hub": check_hub,
        "slurm": check_slurm,
    },
}
TIMEOUT = 60.0  # seconds; a network drive that hangs answers never


class EnvironmentCheckFailed(UserError):
    """Something here would stop a run."""

    exit_code = 1


def run_doctor(cfg: DictConfig, run_dir: Path) -> None:
    """Print a table, and write doctor.json into `run_dir`.

    Args:
        cfg: Of the run that is meant; it is left as it is.
        run_dir: Made if missing.

    Raises:
        Unfit: something would stop that run.
    """
    start, plain = time.monotonic(), OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(plain, DictConfig)
    child = start_benchmark()
    try:
        answers = run_checks(LOOKING, plain, TIMEOUT)
        answers |= run_checks(
            {"speed": partial(evaluate_speed, child=child)}, plain, SPEED_SECONDS + 10
        )  # after all others, which would disturb it
    finally:
        child.end()
    findings, seconds = sort_by_severity(answers.values()), time.monotonic() - start
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(_doctor_report(str(cfg.title), answers, findings, seconds), run_dir / "doctor.json")
    print_report(str(cfg.title), answers, findings, seconds, run_dir / "doctor.json")
    stopping = sum(finding.severity == "stops a run" for finding in findings)
    if stopping:
        raise EnvironmentCheckFailed(
            f"{stopping} of the findings above would stop a run of {cfg.title} here; mend them"
            " first"
        )


def run_checks(
    checks: Mapping[str, Check], cfg: DictConfig, seconds: float
) -> dict[str, CheckResult]:
    """Run checks side by side; one that fails or does not answer in time is itself a finding.

    Args:
        checks: By their names.
        cfg: Of the run.
        seconds: Until all must have answered.
    """
    answers: dict[str, CheckResult] = {}

    def answer(name: str, check: Check) -> None:
        try:
            answers[name] = check(cfg)
        except Exception as error:
            answers[name] = _failed_check(name, f"failed ({type(error).__name__})")

    threads = [Thread(target=answer, args=pair, daemon=True) for pair in checks.items()]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {
        name: answers.get(name) or _failed_check(name, f"did not answer within {seconds:g} s")
        for name in checks
    }


def _failed_check(name: str, how: str) -> CheckResult:
    mend = (
        "the rest of this page holds; look whether a drive or a driver hangs, and report it"
        " otherwise"
    )
    return CheckResult({name: how}, {}, (Issue("warning", f"the check of {name} {how}", mend),))


def _doctor_report(
    title: str, answers: Mapping[str, CheckResult], findings: list[Issue], seconds: float
) -> dict[str, Any]:
    return {
        "version": 1,
        "experiment": title,
        "made": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        "seconds": seconds,
        "checks": {name: dict(answer.values) for name, answer in answers.items()},
        "findings": [asdict(finding) for finding in findings],
    }
