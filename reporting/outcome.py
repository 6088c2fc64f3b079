"""The outcome of a run, outcome.json: running, then finished, pruned, failed or interrupted.

The training process writes it (`record_outcome`). After the end of that process, the process that
started it adds an outcome that it could not write itself, such as a kill (`settle_outcome`). The
module imports nothing heavy.
"""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from datamodules.formats.file_content import read_bytes

OUTCOME_FILE = "outcome.json"
STOPPED = 130  # exit code of a run that was asked to stop and has saved

REPEAT_SECONDS = 1.0

Status = Literal["running", "finished", "pruned", "failed", "interrupted"]
END_STATES = ("finished", "pruned", "failed")  # an interrupted run can be resumed


class TrialPruned(Exception):
    """The trial was pruned; it has not failed.

    Attributes:
        score: Best score so far.
    """

    def __init__(self, message: str, score: float | None) -> None:
        super().__init__(message)
        self.score = score


class RunInterrupted(UserError):
    """The run was asked to stop, and has saved a checkpoint to resume from."""

    exit_code = STOPPED


class StopRequested(BaseException):
    """SIGINT or SIGTERM outside training. Like KeyboardInterrupt, no handler of errors catches it.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {'Ctrl-C' if name == 'SIGINT' else name}")


class RepeatedSignal:
    """Recognizes a signal that arrives twice for one request.

    Ctrl-C reaches all processes of a terminal, and a program such as `uv run` sends it once more.
    """

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def __call__(self, number: int) -> bool:
        """Return True if the same signal arrived within the last second."""
        now = time.monotonic()
        before, self._last[number] = self._last.get(number), now
        return before is not None and now - before < REPEAT_SECONDS


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """State of a run, as outcome.json holds it.

    Attributes:
        status: State. A run begins as `running`; if that stays after the end of its process, the
            process was killed.
        score: Monitored score of a fit, if there is a finite one.
        failure: Reason why it failed.
        overrides: Overrides of the process that wrote it; None outside Hydra.
        seconds: Seconds from its start, or from where it was resumed, to its end.
    """

    status: Status
    score: float | None = None
    failure: str | None = None
    overrides: list[str] | None = None
    seconds: float | None = None

    @property
    def has_ended(self) -> bool:
        """True if the run is over and is not to be resumed."""
        return self.status in END_STATES


_SCHEMA = TypeAdapter(Outcome)


def read_outcome(run_dir: Path) -> Outcome | None:
    """Load outcome.json of a run folder; None if there is none.

    Raises:
        UserError: The file is damaged.
    """
    path = run_dir / OUTCOME_FILE
    if not path.exists():
        return None
    try:
        return _SCHEMA.validate_json(read_bytes(path), strict=True)
    except FileNotFoundError:  # removed meanwhile
        return None
    except (OSError, UserError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UserError(
            f"{path} is not an outcome that can be read ({reason}); delete the file, or run again"
        ) from error


def read_outcome_if_valid(run_dir: Path) -> Outcome | None:
    """Load outcome.json for a process that rewrites it; None if missing or damaged."""
    try:
        return read_outcome(run_dir)
    except UserError:
        return None


def write_outcome(run_dir: Path, outcome: Outcome) -> None:
    """Write outcome.json into a run folder; a score that is not finite becomes None."""
    if outcome.score is not None and not math.isfinite(outcome.score):
        outcome = replace(outcome, score=None)
    atomic_write(run_dir / OUTCOME_FILE, json.dumps(asdict(outcome), indent=2).encode())


class OutcomeRecorder:
    """Keeps the outcome of a run until `record_outcome` writes it."""

    def __init__(self) -> None:
        self.status: Status = "finished"
        self.score: float | None = None
        self.failure: str | None = None

    def finish(self, score: float | None) -> None:
        """Note the monitored score of a run that has finished."""
        self.status, self.score = "finished", score

    def prune(self, score: float | None) -> None:
        """Note that the trial was pruned, and its best score by then."""
        self.status, self.score = "pruned", score

    def fail(self, reason: str) -> None:
        """Note the reason why the run failed."""
        self.status, self.score, self.failure = "failed", None, reason

    def adopt(self, outcome: Outcome) -> None:
        """Note the outcome that another process has written."""
        self.status, self.score, self.failure = outcome.status, outcome.score, outcome.failure

    def interrupt(self) -> None:
        """Note that the run was stopped and can be resumed."""
        self.status, self.score = "interrupted", None


_recording: dict[Path, OutcomeRecorder] = {}  # run folders that this process records


@contextmanager
def record_outcome(run_dir: Path) -> Iterator[OutcomeRecorder]:
    """Write `running` into a run folder, and its outcome after the work.

    An exception counts as a failure, `RunInterrupted`, `StopRequested` and Ctrl-C as an
    interruption; all are raised again. A nested call for the same folder returns the same recorder,
    so that there is one writer: a trial records its run, and the run records itself too.

    Args:
        run_dir: Existing run folder.
    """
    key = run_dir.resolve()
    if key in _recording:
        yield _recording[key]
        return
    recorder = _recording[key] = OutcomeRecorder()
    overrides, began = task_overrides(), time.monotonic()
    write_outcome(run_dir, Outcome(status="running", overrides=overrides))
    on_error: AbstractContextManager[None] = suppress(OSError)  # which must not hide the first one
    try:
        yield recorder
        on_error = nullcontext()
    except (RunInterrupted, StopRequested, KeyboardInterrupt):
        recorder.interrupt()
        raise
    except SystemExit as error:
        if error.code == STOPPED:
            recorder.interrupt()
        elif recorder.status == "finished":
            recorder.fail(f"its process ended with exit code {error.code}")
        raise
    except BaseException as error:
        if recorder.status == "finished":
            recorder.fail(failure_message(error))
        raise
    finally:
        del _recording[key]
        with on_error:
            write_outcome(
                run_dir,
                Outcome(
                    status=recorder.status,
                    score=recorder.score,
                    failure=recorder.failure,
                    overrides=overrides,
                    seconds=round(time.monotonic() - began, 1),
                ),
            )


def failure_message(error: BaseException) -> str:
    """Return the sentence of a user error, and type and message of any other error."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def settle_outcome(
    run_dir: Path, code: int | None, failure: str | None = None, seconds: float | None = None
) -> Outcome:
    """Return the outcome of a run whose process has ended, and write it if that process did not.

    Args:
        run_dir: The run folder.
        code: Exit code of the process, negative for a signal.
        failure: Reason why it failed, if more is known than the code; a reason that the process
            wrote itself is kept.
        seconds: Seconds that the process ran.
    """
    found = read_outcome_if_valid(run_dir)
    succeeded = code == 0 and failure is None
    if code == STOPPED:
        settled = Outcome(status="interrupted")
    elif found is not None and found.has_ended and (succeeded or found.status == "failed"):
        settled = found
    else:
        settled = Outcome(status="failed", failure=failure or _exit_reason(code))
    if found is not None:
        settled = replace(settled, overrides=found.overrides, seconds=found.seconds)
    else:
        settled = replace(settled, overrides=task_overrides())
    if settled.seconds is None and seconds is not None:
        settled = replace(settled, seconds=round(seconds, 1))
    if settled != found:
        write_outcome(run_dir, settled)
    return settled


def task_overrides() -> list[str] | None:
    """Return the overrides of this process; None outside a run.

    By them a run recognizes its own outcome.
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
        ", which the system sends if memory runs out" if name == "SIGKILL" else ""
    )
