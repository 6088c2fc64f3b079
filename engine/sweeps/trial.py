"""Run of one trial of a multirun, which may fail without ending the others.

A trial with several processes starts its own set of them.
"""

import math
import signal
import subprocess
import sys
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
    Outcome,
    OutcomeRecorder,
    failure_message,
    read_outcome_if_valid,
    record_outcome,
    settle_outcome,
    write_outcome,
)

SWEEP_VARIABLES = (
    "hydra.mode",
    "hydra.sweep",
    "hydra/sweeper",
    "hydra/launcher",
    "hydra.launcher",
    "hydra.run.dir",
)  # overrides that do not belong to a trial itself


def is_trial() -> bool:
    """Return True if this is a job of a multirun."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_trial_job(work: Callable[[DictConfig], float | None], cfg: DictConfig) -> float | None:
    """Run one trial; a failure is reported in its `outcome.json`, and the sweep continues.

    Args:
        work: Function that runs one job.
        cfg: Configuration of the trial.

    Returns:
        The monitored score, or None if the trial failed.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if rank() != 0:
        return _run_on_further_rank(work, cfg, folder)
    own = list(HydraConfig.get().overrides.task)
    # a trial of a sweep that was killed may still be running there
    waited = lock_folder(folder, own, wait_for_own=True)
    meanwhile = read_outcome_if_valid(folder)
    if waited and meanwhile is not None and meanwhile.has_ended and meanwhile.overrides == own:
        return meanwhile.score
    try:
        return _run_recorded(work, cfg, folder)
    finally:
        unlock_folder(folder)


def _run_recorded(
    work: Callable[[DictConfig], float | None], cfg: DictConfig, folder: Path
) -> float | None:
    try:
        with record_outcome(folder) as recorder:
            try:
                if not _launched_by_submitit():
                    check_multirun_launch()
                    if is_multi_process(cfg):
                        return _run_in_own_process(folder, recorder)
                score = work(cfg)
                if recorder.status == "finished":
                    recorder.finish(score)
                return _finite_score(score, cfg, folder, recorder)
            except Exception as error:
                sentence, code = _describe_failure(error)
                if code == STOPPED:
                    recorder.interrupt()
                else:
                    recorder.fail(sentence)
                raise
    except Exception as error:
        _report_failure(error, folder)
        return None


def _describe_failure(error: Exception) -> tuple[str, int]:
    """Return message and exit code of a user error; of other errors type and message with 1."""
    return user_message(error) or (failure_message(error), 1)


def _launched_by_submitit() -> bool:
    """Return True if a cluster job runs the trial, so that submitit starts all its ranks."""
    return "submitit" in HydraConfig.get().launcher._target_


def _run_on_further_rank(
    work: Callable[[DictConfig], float | None], cfg: DictConfig, folder: Path
) -> float | None:
    """Run another rank that srun started; the first rank records the outcome of all."""
    try:
        if not _launched_by_submitit():
            check_multirun_launch()
        return work(cfg)
    except Exception as error:
        sentence, code = _describe_failure(error)
        if launched_by_srun() and code != STOPPED:  # srun may end the first rank before it notices
            write_outcome(folder, Outcome(status="failed", failure=sentence))
        _report_failure(error, folder)
        return None


def _report_failure(error: Exception, folder: Path) -> None:
    """Print the reason of a failure and return, so that the sweep continues; exit after a stop."""
    sentence, code = _describe_failure(error)
    if code == STOPPED:
        print(sentence, file=sys.stderr)
        sys.exit(STOPPED)
    if user_message(error) is None:
        traceback.print_exc()
    print(f"trial {folder.name} failed: {sentence}", file=sys.stderr)
    if launched_by_srun():
        sys.exit(1)  # srun then ends the other ranks, which wait for this one


def _finite_score(
    score: float | None, cfg: DictConfig, folder: Path, recorder: OutcomeRecorder
) -> float | None:
    """Return the score; a score that is not finite fails the trial."""
    if score is None or math.isfinite(score):
        return score
    reason = (
        f"the monitored score {cfg.monitor.name} is {score}; its page says where it is undefined"
    )
    recorder.fail(reason)
    print(f"trial {folder.name} failed: {reason}", file=sys.stderr)
    return None


def _run_in_own_process(folder: Path, recorder: OutcomeRecorder) -> float | None:
    """Run the trial in a separate process, which records the outcome; complete it afterwards.

    Lightning starts other ranks from the command line, which in this process is that of the sweep.
    """
    overrides = HydraConfig.get().overrides
    unlock_folder(folder)  # for the training process; this process only waits
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
    found = settle_outcome(folder, code)
    recorder.adopt(found)
    if found.status == "interrupted":
        sys.exit(STOPPED)
    return found.score if code == 0 else None


def wait_forwarding_signals(child: subprocess.Popen) -> int:
    """Wait for a trial's first process and return its exit code.

    Ctrl-C reaches it from the terminal, and SIGTERM is forwarded; it has time to save.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
