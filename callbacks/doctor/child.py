"""A module of this repository in a process of its own, with a time limit."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

RANK_VARIABLES = (
    "SLURM_",
    "TORCHELASTIC_",
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "MASTER_",
)  # beginnings of names that would make it one of a group
REPOSITORY_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ProcessResult:
    """The end of a process.

    Attributes:
        code: Its exit code, negative where a signal ended it; None where its time was over.
        stdout: What it wrote to stdout until then.
        error: The last line of its stderr that is not empty.
    """

    code: int | None
    stdout: str
    error: str


class Subprocess:
    """A process that starts at once and is waited for later.

    Args:
        module: As after `python -m`.
        words: Its arguments.
    """

    def __init__(self, module: str, *words: str) -> None:
        # a pipe that is full would hold it up
        self._said, self._error = (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") for _ in range(2)
        )
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(RANK_VARIABLES)
        }
        streams = {"stdin": subprocess.PIPE, "stdout": self._said, "stderr": self._error}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=REPOSITORY_ROOT,
            env=environment,
            text=True,
            **streams,
        )  # type: ignore[call-overload]

    def result(self, seconds: float, given: str = "") -> ProcessResult:
        """Wait for the process; at the time limit end it with all processes that it started.

        Args:
            seconds: From now on.
            given: Its stdin, which it may wait for.
        """
        code: int | None = None
        try:
            self._process.communicate(given, max(0.0, seconds))
            code = self._process.returncode
        except subprocess.TimeoutExpired:
            self.end()
        for file in (self._said, self._error):
            file.seek(0)
        said, error = self._said.read(), self._error.read()
        lines = [line.strip() for line in error.splitlines() if line.strip()]
        return ProcessResult(code, said, lines[-1] if lines else "")

    def end(self) -> None:
        """End the process and those it started; do nothing where it ended by itself."""
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
