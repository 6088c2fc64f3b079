"""Runs one trial of a multirun, which may fail without ending the others.

A trial of several processes has its own set of them.
"""

import math
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from engine.cli import user_message
from engine.run_lock import lock_folder, unlock_folder
from lightning_modules.launch_environment import (
    check_multirun_launch,
    env_without_rank,
    is_multi_process,
    launched_by_srun,
    rank,
)
from reporting.commands import quote_override
from reporting.outcome import (
    STOPPED,
    clear_outcome,
    finalize_outcome,
    read_outcome,
    set_duration,
    write_outcome,
)

SWEEP_VARIABLES = (
    "hydra.mode",
    "hydra.sweep",
    "hydra/sweeper",
    "hydra/launcher",
    "hydra.launcher",
    "hydra.run.dir",
)  # words that are not a trial's own


def is_trial() -> bool:
    """Return whether this is a job of a multirun."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_trial_job(work: Callable[[DictConfig], float | None], cfg: DictConfig) -> float | None:
    """Run one trial; a failure is reported in its `outcome.json`, and the sweep continues.

    Args:
        work: Carries out one run.
        cfg: Configuration of the trial.

    Returns:
        The monitored score, None if the trial failed.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if rank() != 0:
        return _run_and_record(work, cfg, folder)
    own = list(HydraConfig.get().overrides.task)
    # a trial of a sweep that was killed may still be running there
    waited = lock_folder(folder, own, wait_for_own=True)
    meanwhile = read_outcome(folder)
    if waited and meanwhile is not None and meanwhile.get("overrides") == own:
        return meanwhile["score"]
    began = time.monotonic()
    clear_outcome(folder)
    try:
        return _run_and_record(work, cfg, folder)
    finally:
        set_duration(folder, time.monotonic() - began)
        unlock_folder(folder)


def _run_and_record(
    work: Callable[[DictConfig], float | None], cfg: DictConfig, folder: Path
) -> float | None:
    if "submitit" not in HydraConfig.get().launcher._target_:  # which starts all ranks itself
        check_multirun_launch()
        if is_multi_process(cfg):
            return _run_in_own_process(folder)
    try:
        score = _finite_score(work(cfg), cfg, folder)
        if rank() == 0 and read_outcome(folder) is None:  # of what is no run, such as do=[validate]
            write_outcome(folder, score)
        return score
    except Exception as error:
        sentence = user_message(error)
        if sentence is not None and sentence[1] == STOPPED:
            print(sentence[0], file=sys.stderr)
            if rank() == 0:
                finalize_outcome(folder, STOPPED)
            sys.exit(STOPPED)
        if sentence is None:
            traceback.print_exc()
        said = f"{type(error).__name__}: {error}" if sentence is None else sentence[0]
        if rank() == 0 or launched_by_srun():
            write_outcome(folder, None, said)
        print(f"trial {folder.name} failed: {said}", file=sys.stderr)
        if launched_by_srun():
            sys.exit(1)  # the other ranks wait for this one, until srun ends them for it
        return None


def _finite_score(score: float | None, cfg: DictConfig, folder: Path) -> float | None:
    """Return the score; one that is not finite fails the trial, as it can choose nothing."""
    if score is None or math.isfinite(score):
        return score
    said = f"the monitored score {cfg.monitor.name} is {score}; its page says where it is undefined"
    if rank() == 0:
        write_outcome(folder, None, said)
    print(f"trial {folder.name} failed: {said}", file=sys.stderr)
    return None


def _run_in_own_process(folder: Path) -> float | None:
    """Run the trial in a process of its own.

    Lightning starts further ranks from the command line, which in this process is the sweep's.
    """
    overrides = HydraConfig.get().overrides
    unlock_folder(folder)  # for the first of those processes, which trains; this one only waits
    own = [word for word in overrides.hydra if not word.lstrip("+~").startswith(SWEEP_VARIABLES)]
    command = [
        sys.executable,
        str(Path(sys.argv[0]).resolve()),
        *overrides.task,
        *own,
        quote_override("hydra.run.dir", folder),
    ]
    code = wait_forwarding_signals(
        subprocess.Popen(command, cwd=HydraConfig.get().runtime.cwd, env=env_without_rank())
    )
    found = finalize_outcome(folder, code)
    if found is None:
        sys.exit(STOPPED)
    return found["score"] if code == 0 else None


def wait_forwarding_signals(child: subprocess.Popen) -> int:
    """Wait for a trial's first process and return its exit code.

    Ctrl-C reaches it from the terminal, and SIGTERM is passed on; it is given time to save.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
