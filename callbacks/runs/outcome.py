"""Reads and writes outcome.json, which tells how a run ended and with which score.

Imports nothing heavy.
"""

import json
import math
import signal
from pathlib import Path
from typing import Any, Literal

from datamodules.whole_file import atomic_write

NAME = "outcome.json"
STOPPED = 130  # exit code of a run that was asked to stop and has saved
Status = Literal["finished", "failed", "pruned"]


def write(
    run_dir: Path, score: float | None, failure: str | None = None, status: Status | None = None
) -> None:
    """Write `outcome.json` into a run folder.

    Args:
        run_dir: The run folder.
        score: The monitored score of a fit, if there was one.
        failure: Why the run failed, None if it did not.
        status: None means `failed` with a failure, else `finished`.
    """
    known = score if score is not None and math.isfinite(score) else None
    said = {
        "status": status or ("finished" if failure is None else "failed"),
        "score": known,
        "failure": failure,
    }
    _write(run_dir, said | {"overrides": overrides()})


def read(run_dir: Path) -> dict[str, Any] | None:
    """Load outcome.json; None if it is missing or cannot be read."""
    try:
        said = json.loads((run_dir / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and "status" in said else None


def forget(run_dir: Path) -> None:
    """Delete the outcome of an earlier run in this folder, which starts again or can resume."""
    (run_dir / NAME).unlink(missing_ok=True)


def lasted(run_dir: Path, seconds: float) -> None:
    """Add the duration of a run to its outcome, if there is one."""
    said = read(run_dir)
    if said is not None:
        _write(run_dir, said | {"seconds": round(seconds, 1)})


def settle(run_dir: Path, code: int | None, why: str | None = None) -> dict[str, Any] | None:
    """Return the outcome of a run whose process has ended; write a failure if it left none.

    Args:
        run_dir: The run folder.
        code: Its exit code, negative for a signal.
        why: Why it ended so, if more is known than its code.

    Returns:
        The outcome, None for a run that was stopped and can be resumed.
    """
    said = read(run_dir)
    if code == STOPPED:
        forget(run_dir)
        return None
    if said is None or (code != 0 and said["status"] != "failed"):
        write(run_dir, None, why or _end(code))
    return read(run_dir)


def overrides() -> list[str] | None:
    """Return the overrides that this process was started with; None outside a run.

    They keep another run from taking the outcome for its own.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf.errors import OmegaConfBaseException

    try:
        return (
            [str(word) for word in HydraConfig.get().overrides.task]
            if HydraConfig.initialized()
            else None
        )
    except OmegaConfBaseException:
        return None


def _end(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with exit code {code} and left no {NAME}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    return f"its process was killed by {name}" + (
        ", which is what the system sends where memory runs out" if name == "SIGKILL" else ""
    )


def _write(run_dir: Path, said: dict[str, Any]) -> None:
    atomic_write(run_dir / NAME, json.dumps(said, indent=2).encode())
