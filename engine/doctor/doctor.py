"""do=[doctor]: checks of the machine, printed as a report and written to doctor.json."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from datamodules.errors import UserError
from engine.doctor.check_result import Check, CheckResult, Issue, sort_by_severity
from engine.doctor.distributed import check_gloo, check_nccl
from engine.doctor.environment import (
    check_cache_folder,
    check_commit,
    check_data_folder,
    check_packages,
    check_runs_folder,
    check_slurm,
    check_wandb,
    check_weights,
)
from engine.doctor.hardware import (
    check_cores,
    check_devices,
    check_memory,
    check_open_files,
    check_precision,
    check_shared_memory,
)
from engine.doctor.throughput import SPEED_SECONDS, evaluate_speed, start_benchmark
from reporting.file_io import write_json
from reporting.tables import terminal_table

STYLES = {"stops a run": "bold red", "warning": "yellow"}


def print_report(
    title: str,
    answers: Mapping[str, CheckResult],
    findings: list[Issue],
    seconds: float,
    file: Path,
) -> None:
    """Print the report.

    Args:
        title: Title of the experiment.
        answers: Results by the names of their checks.
        findings: Issues in the order of the report.
        seconds: Duration of all checks.
        file: JSON file with the same content.
    """
    console = Console()
    table = terminal_table(f"doctor · {title}", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for answer in answers.values():
        for name, words in answer.summary.items():
            table.add_row(escape(name), escape(words))
    console.print(table)
    for position, finding in enumerate(findings, 1):
        style = STYLES[finding.severity]
        console.print(
            f"{position}. [{style}]{finding.severity}:[/] {escape(finding.message)}",
            highlight=False,
            overflow="fold",
        )
    if not findings:
        console.print("no problems found")
    console.print(
        f"{seconds:.0f} s; as JSON: {escape(str(file))}",
        style="dim",
        soft_wrap=True,
        highlight=False,
    )


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
        "weights": check_weights,
        "slurm": check_slurm,
    },
}
TIMEOUT = 60.0  # seconds; a hanging network drive never answers


class EnvironmentCheckFailed(UserError):
    """Error if a check found a problem that would stop a run."""

    exit_code = 1


def run_doctor(cfg: DictConfig, run_dir: Path) -> None:
    """Run all checks, print a table, and write doctor.json into `run_dir`.

    Args:
        cfg: Configuration of the run; it is not changed.
        run_dir: Output folder, which is created if it is missing.

    Raises:
        EnvironmentCheckFailed: A problem would stop that run.
    """
    start, plain = time.monotonic(), OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(plain, DictConfig)
    child = start_benchmark()
    try:
        answers = run_checks(LOOKING, plain, TIMEOUT)
        answers |= run_checks(
            {"speed": partial(evaluate_speed, child=child)}, plain, SPEED_SECONDS + 10
        )  # after all others, which would disturb the measurement
    finally:
        child.end()
    findings, seconds = sort_by_severity(answers.values()), time.monotonic() - start
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(_doctor_report(str(cfg.title), answers, findings, seconds), run_dir / "doctor.json")
    print_report(str(cfg.title), answers, findings, seconds, run_dir / "doctor.json")
    stopping = sum(finding.severity == "stops a run" for finding in findings)
    if stopping:
        raise EnvironmentCheckFailed(
            f"{stopping} of the problems above would stop a run of {cfg.title} here; fix them first"
        )


def run_checks(
    checks: Mapping[str, Check], cfg: DictConfig, seconds: float
) -> dict[str, CheckResult]:
    """Run checks in parallel; a check that fails or times out is reported as an issue.

    Args:
        checks: Checks by their names.
        cfg: Configuration of the run.
        seconds: Timeout of all checks.
    """
    answers: dict[str, CheckResult] = {}

    def run_check(name: str, check: Check) -> None:
        """Store the result of one check."""
        try:
            answers[name] = check(cfg)
        except Exception as error:
            answers[name] = _failed_check(name, f"failed ({type(error).__name__})")

    threads = [Thread(target=run_check, args=pair, daemon=True) for pair in checks.items()]
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
    fix = (
        "the other checks are valid; check if a drive or a driver hangs, and report this otherwise"
    )
    return CheckResult({name: how}, {}, (Issue("warning", f"the check of {name} {how}", fix),))


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
