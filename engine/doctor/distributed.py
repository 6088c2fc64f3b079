"""Checks of the communication between processes over gloo and NCCL."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from omegaconf import DictConfig

from engine.doctor.check_result import CheckResult, Issue
from engine.doctor.hardware import accelerator_kind, n_devices
from lightning_modules.launch_environment import env_without_rank

REPOSITORY_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ProcessResult:
    """Result of a process.

    Attributes:
        code: Exit code, negative after a signal; None after a timeout.
        stdout: Text that it wrote to stdout.
        error: Last line of its stderr that is not empty.
    """

    code: int | None
    stdout: str
    error: str


class Subprocess:
    """Process that starts immediately and is waited for later.

    Args:
        module: Module, as after `python -m`.
        words: Arguments of the process.
    """

    def __init__(self, module: str, *words: str) -> None:
        # files, because a full pipe would block the process
        self._said, self._error = (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") for _ in range(2)
        )
        streams = {"stdin": subprocess.PIPE, "stdout": self._said, "stderr": self._error}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=REPOSITORY_ROOT,
            env=env_without_rank(),
            text=True,
            **streams,
        )  # type: ignore[call-overload]

    def result(self, seconds: float, given: str = "") -> ProcessResult:
        """Wait for the process; after a timeout end it with all processes that it started.

        Args:
            seconds: Timeout.
            given: Text for its stdin.
        """
        code: int | None = None
        try:
            self._process.communicate(given, max(0.0, seconds))
            code = self._process.returncode
        except subprocess.TimeoutExpired:
            self.end()
        for file in (self._said, self._error):
            file.seek(0)
        message, error = self._said.read(), self._error.read()
        lines = [line.strip() for line in error.splitlines() if line.strip()]
        return ProcessResult(code, message, lines[-1] if lines else "")

    def end(self) -> None:
        """End the process and those it started; do nothing if it has ended."""
        try:
            family = [
                psutil.Process(self._process.pid),
                *psutil.Process(self._process.pid).children(recursive=True),
            ]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait(5)


EXCHANGE_SECONDS = 45.0  # timeout; a busy machine needs most of it to import torch


def check_gloo(cfg: DictConfig) -> CheckResult:
    """Check gloo with two processes on the CPU."""
    outcomes = run_peers("gloo", 2)
    found = _exchange_issues(
        "gloo",
        outcomes,
        _gloo_fix(),
        needed=_needs_exchange(cfg) and accelerator_kind(cfg) == "cpu",
    )
    if not found and cfg.trainer.num_nodes > 1 and not hostname_resolves():
        what = (
            f"the host name does not resolve, by which {cfg.trainer.num_nodes} nodes find each"
            " other"
        )
        found = (
            Issue(
                "stops a run",
                what,
                "add it to /etc/hosts, or set GLOO_SOCKET_IFNAME to the network's interface",
            ),
        )
    return _exchange_result("gloo", outcomes, found)


def check_nccl(cfg: DictConfig) -> CheckResult:
    """Check NCCL with two processes on two GPUs, if there are two."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus < 2 or not torch.distributed.is_nccl_available():
        why = "this torch build has none" if gpus > 1 else "it takes two GPUs"
        return CheckResult({"NCCL": f"not tried: {why}"}, {"tried": False})
    outcomes = run_peers("nccl", 2)
    fix = (
        "run with NCCL_DEBUG=INFO to see why; NCCL_P2P_DISABLE=1, NCCL_SHM_DISABLE=1 or"
        " NCCL_SOCKET_IFNAME=lo often help"
    )
    return _exchange_result(
        "NCCL",
        outcomes,
        _exchange_issues(
            "NCCL", outcomes, fix, needed=_needs_exchange(cfg) and accelerator_kind(cfg) == "cuda"
        ),
    )


def run_peers(
    backend: str, processes: int, seconds: float = EXCHANGE_SECONDS
) -> list[ProcessResult]:
    """Start the processes and wait for all of them.

    Args:
        backend: `gloo` or `nccl`.
        processes: Number of processes.
        seconds: Timeout, after which all are ended.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [
        Subprocess("engine.doctor.distributed_peer", backend, str(rank), str(processes), str(port))
        for rank in range(processes)
    ]
    end = time.monotonic() + seconds
    try:
        return [child.result(end - time.monotonic()) for child in children]
    finally:
        for child in children:
            child.end()


def hostname_resolves() -> bool:
    """Return True if this host's own name resolves to an address."""
    try:
        return bool(socket.getaddrinfo(socket.gethostname(), None))
    except OSError:
        return False


def _needs_exchange(cfg: DictConfig) -> bool:
    return n_devices(cfg) * cfg.trainer.num_nodes > 1


def _gloo_fix() -> str:
    named = os.environ.get("GLOO_SOCKET_IFNAME")
    there = [name for _, name in socket.if_nameindex()]
    if named and not set(named.split(",")) <= set(there):
        return (
            f"GLOO_SOCKET_IFNAME={named} is not an interface of this machine; set one of"
            f" {', '.join(there)}, or"
            " unset it"
        )
    if not hostname_resolves():
        return (
            "the host name does not resolve: set GLOO_SOCKET_IFNAME=lo, or add the name to"
            " /etc/hosts"
        )
    return "set GLOO_SOCKET_IFNAME=lo on one machine, or train with trainer.devices=1"


def _exchange_issues(
    name: str, outcomes: list[ProcessResult], fix: str, needed: bool
) -> tuple[Issue, ...]:
    failed = [outcome for outcome in outcomes if outcome.code != 0]
    if not failed:
        return ()
    why = next(
        (outcome.error for outcome in failed if outcome.code is not None),
        f"no answer within {EXCHANGE_SECONDS:.0f} s",
    )
    why = re.sub(r"\[enforce fail at [^\]]*\]\s*", "", why)[
        :160
    ]  # without the position in the source code
    what = f"two processes cannot exchange gradients by {name} ({why})"
    return (Issue("stops a run" if needed else "warning", what, fix),)


def _exchange_result(
    name: str, outcomes: list[ProcessResult], found: tuple[Issue, ...]
) -> CheckResult:
    if any(outcome.code != 0 for outcome in outcomes):
        return CheckResult({name: "does not work"}, {"tried": True, "works": False}, found)
    rate = float(outcomes[0].stdout.split()[-1])
    message = f"works: 2 processes, {rate:,.0f} MB of gradients a second"
    return CheckResult(
        {name: message}, {"tried": True, "works": True, "megabytes_per_second": rate}, found
    )
