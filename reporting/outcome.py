"""outcome.json: how a run ended and with which score. Imports nothing heavy."""

import json
import math
import signal
from pathlib import Path
from typing import Any, Literal

from datamodules.formats.atomic_write import atomic_write

OUTCOME_FILE = "outcome.json"


STOPPED = 130  # exit code of a run that was asked to stop and has saved


Status = Literal["finished", "failed", "pruned"]


class TrialPruned(Exception):
    """The trial ends here; it has not failed.

    Attributes:
        score: Its best so far.
    """

    def __init__(self, said: str, score: float | None) -> None:
        super().__init__(said)
        self.score = score


def write_outcome(
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
    _write_outcome(run_dir, said | {"overrides": task_overrides()})


def read_outcome(run_dir: Path) -> dict[str, Any] | None:
    """Load outcome.json; None if it is missing or cannot be read."""
    try:
        said = json.loads((run_dir / OUTCOME_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and "status" in said else None


def clear_outcome(run_dir: Path) -> None:
    """Delete the outcome of an earlier run in this folder, which starts again or can resume."""
    (run_dir / OUTCOME_FILE).unlink(missing_ok=True)


def set_duration(run_dir: Path, seconds: float) -> None:
    """Add the duration of a run to its outcome, if there is one."""
    said = read_outcome(run_dir)
    if said is not None:
        _write_outcome(run_dir, said | {"seconds": round(seconds, 1)})


def finalize_outcome(
    run_dir: Path, code: int | None, why: str | None = None
) -> dict[str, Any] | None:
    """Return the outcome of a run whose process has ended; write a failure if it left none.

    Args:
        run_dir: The run folder.
        code: Its exit code, negative for a signal.
        why: Why it ended so, if more is known than its code.

    Returns:
        The outcome, None for a run that was stopped and can be resumed.
    """
    said = read_outcome(run_dir)
    if code == STOPPED:
        clear_outcome(run_dir)
        return None
    if said is None or (code != 0 and said["status"] != "failed"):
        write_outcome(run_dir, None, why or _exit_reason(code))
    return read_outcome(run_dir)


def task_overrides() -> list[str] | None:
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


def _exit_reason(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with exit code {code} and left no {OUTCOME_FILE}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    return f"its process was killed by {name}" + (
        ", which is what the system sends where memory runs out" if name == "SIGKILL" else ""
    )


def _write_outcome(run_dir: Path, said: dict[str, Any]) -> None:
    atomic_write(run_dir / OUTCOME_FILE, json.dumps(said, indent=2).encode())
