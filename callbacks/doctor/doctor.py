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

from callbacks.doctor.devices import devices, precision
from callbacks.doctor.exchange import gloo, nccl
from callbacks.doctor.finding import Answer, Check, Finding, worst_first
from callbacks.doctor.folders import cache_folder, data, runs_folder
from callbacks.doctor.machine import cores, memory, open_files, shared_memory
from callbacks.doctor.page import show
from callbacks.doctor.services import hub, slurm, wandb
from callbacks.doctor.software import commit, packages
from callbacks.doctor.speed import SECONDS, speed, started
from callbacks.report.content import write_json
from datamodules.refusal import UserError

LOOKING: dict[str, Check] = {
    **{"cores": cores, "memory": memory, "shared_memory": shared_memory, "open_files": open_files},
    **{"devices": devices, "precision": precision, "gloo": gloo, "nccl": nccl},
    **{"data": data, "cache": cache_folder, "runs": runs_folder},
    **{"packages": packages, "commit": commit, "wandb": wandb, "hub": hub, "slurm": slurm},
}
PATIENCE = 60.0  # seconds; a network drive that hangs answers never


class Unfit(UserError):
    """Something here would stop a run."""

    exit_code = 1


def doctor(cfg: DictConfig, run_dir: Path) -> None:
    """Print a table, and write doctor.json into `run_dir`.

    Args:
        cfg: Of the run that is meant; it is left as it is.
        run_dir: Made if missing.

    Raises:
        Unfit: something would stop that run.
    """
    start, plain = time.monotonic(), OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    assert isinstance(plain, DictConfig)
    child = started()
    try:
        answers = asked(LOOKING, plain, PATIENCE)
        answers |= asked(
            {"speed": partial(speed, child=child)}, plain, SECONDS + 10
        )  # after all others, which would disturb it
    finally:
        child.end()
    findings, seconds = worst_first(answers.values()), time.monotonic() - start
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(_content(str(cfg.title), answers, findings, seconds), run_dir / "doctor.json")
    show(str(cfg.title), answers, findings, seconds, run_dir / "doctor.json")
    stopping = sum(finding.severity == "stops a run" for finding in findings)
    if stopping:
        raise Unfit(
            f"{stopping} of the findings above would stop a run of {cfg.title} here; mend them"
            " first"
        )


def asked(checks: Mapping[str, Check], cfg: DictConfig, seconds: float) -> dict[str, Answer]:
    """Run checks side by side; one that fails or does not answer in time is itself a finding.

    Args:
        checks: By their names.
        cfg: Of the run.
        seconds: Until all must have answered.
    """
    answers: dict[str, Answer] = {}

    def answer(name: str, check: Check) -> None:
        try:
            answers[name] = check(cfg)
        except Exception as error:
            answers[name] = _without(name, f"failed ({type(error).__name__})")

    threads = [Thread(target=answer, args=pair, daemon=True) for pair in checks.items()]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {
        name: answers.get(name) or _without(name, f"did not answer within {seconds:g} s")
        for name in checks
    }


def _without(name: str, how: str) -> Answer:
    mend = (
        "the rest of this page holds; look whether a drive or a driver hangs, and report it"
        " otherwise"
    )
    return Answer({name: how}, {}, (Finding("warning", f"the check of {name} {how}", mend),))


def _content(
    title: str, answers: Mapping[str, Answer], findings: list[Finding], seconds: float
) -> dict[str, Any]:
    return {
        "version": 1,
        "experiment": title,
        "made": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        "seconds": seconds,
        "checks": {name: dict(answer.known) for name, answer in answers.items()},
        "findings": [asdict(finding) for finding in findings],
    }
