"""Clean stop on SIGINT and SIGTERM before and after training. Imports nothing heavy.

During training `callbacks/graceful_shutdown.py` takes over and saves first.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from reporting.commands import relative_to_cwd
from reporting.outcome import RepeatedSignal, RunInterrupted, StopRequested

if TYPE_CHECKING:
    from omegaconf import DictConfig

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handle_stop_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `StopRequested` in this process within the context.

    A process that is forked from it, such as a worker of a data loader, just ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process, repeated = os.getpid(), RepeatedSignal()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not repeated(number):
            raise StopRequested(number)

    before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def explain_stop(stop: StopRequested, cfg: "DictConfig") -> RunInterrupted:
    """Return the message of a run that was stopped outside training: how to continue.

    Args:
        stop: What its signal raised.
        cfg: Configuration of the run.
    """
    tasks = [cfg.do] if isinstance(cfg.do, str) else list(cfg.do)
    last = Path(str(cfg.paths.run)) / "checkpoints" / "last.ckpt"
    if "fit" not in tasks:
        return RunInterrupted(f"{stop} before it was complete; start the same command again")
    if not last.is_file():
        return RunInterrupted(f"{stop}; nothing was trained: start the same command again")
    return RunInterrupted(
        f"{stop}; what is in {relative_to_cwd(last)} is complete: continue with the same command"
        f" and ckpt_path={relative_to_cwd(last)}"
    )
