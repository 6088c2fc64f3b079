"""Launcher that runs the trials of a multirun in separate processes, one per GPU."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from datamodules.arguments import PositiveInt, check_value
from datamodules.errors import UserError
from engine.gpus import nvidia_gpus
from engine.run_lock import FOLDER_IN_USE, FolderInUse, lock_folder
from engine.stop_signals import handle_stop_signals
from lightning_modules.launch_environment import check_multirun_launch, env_without_rank
from reporting.outcome import (
    STOPPED,
    Outcome,
    StopRequested,
    failure_message,
    read_outcome_if_valid,
    record_outcome,
    settle_outcome,
)

VISIBLE_DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class DeviceSlot:
    """Device for one trial at a time.

    Attributes:
        gpu: The only GPU of the trial, as in CUDA_VISIBLE_DEVICES; None does not change the
            variable.
        threads: Number of CPU threads; None leaves it to PyTorch.
    """

    gpu: str | None = None
    threads: int | None = None


def device_slots(
    config: DictConfig, n_jobs: int | None, multi_process: bool = False
) -> list[DeviceSlot]:
    """Return a slot for each trial that may run at the same time.

    Args:
        config: Configuration of the sweep; trials of several processes run one at a time, with all
            GPUs.
        n_jobs: Number of trials at a time; None is one per GPU, or one without GPUs.
        multi_process: True if trials have several processes, even if the sweep's configuration has
            one.

    Raises:
        UserError: `n_jobs` is not a number of trials, or several multi-process trials would run at
            a time.
    """
    check_value("hydra.launcher.n_jobs", n_jobs, PositiveInt | None)
    if multi_process or config.trainer.devices not in (1, "1") or config.trainer.num_nodes != 1:
        if (n_jobs or 1) > 1:
            raise UserError(
                f"{n_jobs} trials at a time with several processes each (trainer.devices) would"
                f" share"
                " devices; remove n_jobs"
            )
        return [DeviceSlot()]
    gpus = _visible_gpus() if config.trainer.accelerator in ("auto", "gpu", "cuda") else []
    import joblib  # imported here: half a second, which only sweeps need

    wanted = n_jobs or max(1, len(gpus))
    if gpus:
        return [DeviceSlot(gpu=gpus[number % len(gpus)]) for number in range(wanted)]
    return [
        DeviceSlot(threads=max(1, joblib.cpu_count() // wanted) if wanted > 1 else None)
        for _ in range(wanted)
    ]


def _visible_gpus() -> list[str]:
    """List the GPUs as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(VISIBLE_DEVICES_VARIABLE)
    if named is None:
        return [str(number) for number in range(nvidia_gpus())]
    return [gpu.strip() for gpu in named.split(",") if gpu.strip()]


REPOSITORY_ROOT = Path(__file__).parents[2]
_context: Any = None


def start_forkserver(preload: Sequence[str]) -> None:
    """Start the process that imports modules once, from which trials are forked.

    There is one for all sweeps of this process. If the system has no forkserver, every process
    imports the modules itself, and a message says so.

    Args:
        preload: Modules to import; others are imported when they are needed.
    """
    global _context
    if _context is not None:
        return
    if "forkserver" not in multiprocessing.get_all_start_methods():
        print(
            "this system has no forkserver, so each trial imports for itself, which takes some ten"
            " seconds",
            file=sys.stderr,
        )
        _context = multiprocessing.get_context("spawn")
        return
    from multiprocessing import forkserver

    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(list(preload))
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(REPOSITORY_ROOT), *([known] if known else [])]
    )  # it imports modules from the folder that it is started in
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if known is None else os.environ.update(PYTHONPATH=known)


def new_process(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Create a process without starting it; `start_forkserver` must have been called."""
    return _context.Process(target=target, args=arguments)


def run_in_subprocess(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function in a forked process if that saves an import, else in this process."""
    if _context is None or _context.get_start_method() != "forkserver":
        function(*arguments)
        return
    sys.stdout.flush()
    one = new_process(function, *arguments)
    one.start()
    one.join()


@dataclass(frozen=True)
class Job:
    """One trial of a sweep.

    Attributes:
        number: Number of the trial and name of its folder.
        overrides: Overrides of the trial.
        sweep_dir: Folder of the sweep.
        display_overrides: Overrides that distinguish it from other trials.
    """

    number: int
    overrides: Sequence[str]
    sweep_dir: Path
    display_overrides: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        """Folder of the trial."""
        return self.sweep_dir / str(self.number)


TrialEndHook = Callable[[Job], None]


@runtime_checkable
class StreamingLauncher(Protocol):
    """Interface of a launcher that takes the next trial when it has a free slot."""

    def launch_jobs(
        self, jobs: Iterator[Job], n_jobs: int | None, on_trial_end: TrialEndHook
    ) -> bool:
        """Run trials; return True if the launcher was stopped before all were run."""


def launch_jobs(
    launcher: Any, jobs: Iterator[Job], n_jobs: int | None, on_trial_end: TrialEndHook
) -> bool:
    """Run trials with any launcher; launchers of others run batches of `n_jobs` trials.

    Args:
        launcher: Launcher of Hydra.
        jobs: Trials; the next one is taken when a slot is free.
        n_jobs: Number of trials at a time; None leaves it to the launcher.
        on_trial_end: Function that is called in this process for each ended trial, including failed
            ones.

    Returns:
        True if it was stopped before all trials were run.
    """
    if isinstance(launcher, StreamingLauncher):
        return launcher.launch_jobs(jobs, n_jobs, on_trial_end)
    together = n_jobs or 1
    if together > 1 and "basic_launcher" in type(launcher).__module__:
        raise UserError(
            f"hydra.sweeper.n_jobs={together}: hydra/launcher=basic runs one trial at a"
            " time; remove hydra/launcher=basic"
        )
    while batch := list(islice(jobs, together)):
        follow = [job.number for job in batch] == list(
            range(batch[0].number, batch[0].number + len(batch))
        )
        for part in (
            [batch] if follow else [[job] for job in batch]
        ):  # Hydra numbers the jobs of a launch consecutively
            _launch_batch(launcher, part, on_trial_end)
    return False


def _launch_batch(launcher: Any, batch: list[Job], on_trial_end: TrialEndHook) -> None:
    ends: list[str | None]
    try:
        returned = launcher.launch(
            [job.overrides for job in batch], initial_job_idx=batch[0].number
        )
    except UserError:
        raise
    except Exception as error:
        # a cluster job that died ends the launch; the outcomes of the others are unknown yet
        if len(batch) > 1:
            message = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"a cluster job was lost ({message}); run the same command again after the others"
                " have ended"
            ) from error
        ends = [f"{type(error).__name__}: {error}"]
    else:
        ends = [
            (
                f"{type(one._return_value).__name__}: {one._return_value}"
                if one.status.name == "FAILED"
                else None
            )
            for one in returned
        ]
    for job, why in zip(batch, ends, strict=True):
        settle_outcome(job.folder, 1 if why else 0, why)
        on_trial_end(job)


def stop_message(sweep_dir: Path, resume: bool = False) -> str:
    """Return the message after a stop, with the overrides that resume the sweep."""
    return (
        "the sweep was stopped; the same command with"
        f" hydra.sweep.dir={sweep_dir}{' resume=auto' * resume} continues it"
    )


@dataclass(frozen=True)
class TrialSpec:
    """Specification of a trial for its process.

    Attributes:
        context: Context of Hydra.
        task: Function that runs a job.
        config: Configuration of the sweep.
        hydra_state: State of Hydra's singletons.
        job: The trial.
        device_slot: Device that it runs on.
        environment: Environment of the sweep's process.
        log_path: File for what it prints, if several print at the same time.
    """

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    hydra_state: Any
    job: Job
    device_slot: DeviceSlot
    environment: dict[str, str]
    log_path: Path | None


def run_trial(pickled_spec: bytes) -> None:
    """Run a trial and write its outcome to its folder.

    Args:
        pickled_spec: `TrialSpec`, pickled by cloudpickle because of Hydra's state.
    """
    start: TrialSpec = pickle.loads(pickled_spec)
    os.environ.clear()
    os.environ.update(start.environment)
    folder = start.job.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock_folder(
            folder, start.job.overrides, wait_for_own=True
        )  # before Hydra writes into a folder that another run may use
    except FolderInUse as refusal:
        print(f"trial {start.job.number}: {refusal}", file=sys.stderr)
        sys.exit(FOLDER_IN_USE)
    _set_up_process(start)
    threading.Thread(target=_terminate_with_parent, daemon=True).start()
    Singleton.set_state(start.hydra_state)
    setup_globals()
    try:
        with handle_stop_signals():
            _run_hydra_job(start)
    except (StopRequested, KeyboardInterrupt):
        sys.exit(STOPPED)
    except Exception as error:
        from engine.cli import user_message

        message, _ = user_message(error) or (failure_message(error), 1)
        with record_outcome(folder) as recorder:  # the job itself did not start
            recorder.fail(message)
        print(f"trial {start.job.number} failed: {message}", file=sys.stderr)
        sys.exit(1)


def _set_up_process(spec: TrialSpec) -> None:
    """Set the GPU, the threads and the log of the process."""
    if spec.device_slot.gpu is not None:
        os.environ[VISIBLE_DEVICES_VARIABLE] = spec.device_slot.gpu
    if spec.device_slot.threads is not None:
        import torch

        torch.set_num_threads(spec.device_slot.threads)
    if spec.log_path is not None:
        with spec.log_path.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)


def _terminate_with_parent() -> None:
    """Terminate the trial if its sweep is killed, so that it saves and ends."""
    sweep = multiprocessing.parent_process()
    if sweep is not None:
        sweep.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run_hydra_job(spec: TrialSpec) -> None:
    config = spec.context.config_loader.load_sweep_config(spec.config, list(spec.job.overrides))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = str(spec.job.number), spec.job.number
    returned = run_job(spec.task, config, "hydra.sweep.dir", "hydra.sweep.subdir", spec.context)
    _ = returned.return_value  # raises the error of the task


CONSOLE_LOG = "console.log"


@dataclass
class RunningTrial:
    """Running trial with its process."""

    job: Job
    device_slot: DeviceSlot
    process: BaseProcess
    started_at: float = field(default_factory=time.monotonic)


class ProcessPool:
    """Pool that runs the trials of one sweep in separate processes.

    Args:
        context: Context of Hydra.
        task: Function that runs a job.
        config: Configuration of the sweep.
        preload: Modules that are imported once, in the process from which trials are forked.
    """

    def __init__(
        self, context: HydraContext, task: TaskFunction, config: DictConfig, preload: Sequence[str]
    ) -> None:
        self.context, self.task, self.config, self.preload = context, task, config, list(preload)
        self._running: dict[int, RunningTrial] = {}  # keys are the sentinels of the processes
        self._stop_requests = 0  # number of signals so far

    def launch_jobs(
        self,
        jobs: Iterator[Job],
        n_jobs: int | None,
        on_trial_end: TrialEndHook,
        multi_process: bool = False,
    ) -> bool:
        """Run trials, the next one whenever a slot is free.

        Args:
            jobs: Trials.
            n_jobs: Number of trials at a time; None is one per GPU, or one without GPUs.
            on_trial_end: Function that is called for each ended trial.
            multi_process: True if trials have several processes, so that each needs the whole
                machine.

        Returns:
            True if it was stopped; running trials have then saved and are `interrupted`.
        """
        check_multirun_launch()
        free = device_slots(self.config, n_jobs, multi_process)
        several = len(free) > 1
        start_forkserver(self.preload)
        try:
            with self._forwarding_signals():
                while True:
                    while (
                        free and not self._stop_requests and (job := next(jobs, None)) is not None
                    ):
                        self._start_trial(job, free.pop(0), several)
                    if not self._running:
                        return bool(self._stop_requests)
                    for sentinel in wait(list(self._running)):
                        trial = self._running.pop(sentinel)  # type: ignore[arg-type]
                        free.insert(0, self._finish_trial(trial, several, on_trial_end))
        finally:
            self._stop_trials()
            for running in self._running.values():
                running.process.join()

    def _start_trial(self, job: Job, device_slot: DeviceSlot, log_to_file: bool) -> None:
        log = job.folder / CONSOLE_LOG if log_to_file else None
        print(
            f"trial {job.number}: {' '.join(job.display_overrides)}" + (f" ({log})" if log else ""),
            flush=True,
        )
        start = TrialSpec(
            self.context,
            self.task,
            self.config,
            Singleton.get_state(),
            job,
            device_slot,
            env_without_rank(),
            log,
        )
        started = new_process(run_trial, cloudpickle.dumps(start))
        started.start()
        self._running[started.sentinel] = RunningTrial(job, device_slot, started)
        if self._stop_requests:
            started.terminate()

    def _finish_trial(
        self, running: RunningTrial, log_to_file: bool, on_trial_end: TrialEndHook
    ) -> DeviceSlot:
        running.process.join()
        code, folder = running.process.exitcode, running.job.folder
        if code == FOLDER_IN_USE:
            self._stop_trials()
            raise FolderInUse(
                f"trial {running.job.number} would train in a folder that another run uses; name"
                " another hydra.sweep.dir"
            )
        left = read_outcome_if_valid(folder)
        lost = code != 0 or left is None or left.status not in ("finished", "pruned")
        outcome = settle_outcome(
            folder,
            STOPPED if self._stop_requests and lost else code,
            seconds=time.monotonic() - running.started_at,
        )  # an error during a stop does not count as a failure
        if outcome.status == "interrupted":
            self._stop_requests = self._stop_requests or 1
            self._stop_trials()
        else:
            _print_outcome(running.job, outcome, print_failure=log_to_file or (code or 0) < 0)
            on_trial_end(running.job)
        return running.device_slot

    @contextmanager
    def _forwarding_signals(self) -> Iterator[None]:
        """Forward Ctrl-C and termination: trials save, and the sweep stops.

        In a terminal Ctrl-C also reaches the trials directly, which is harmless.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_requests += 1
        self._stop_trials(kill=self._stop_requests > 1)

    def _stop_trials(self, kill: bool = False) -> None:
        for running in list(self._running.values()):
            running.process.kill() if kill else running.process.terminate()


def _print_outcome(job: Job, outcome: Outcome, print_failure: bool) -> None:
    """Print one line for an ended trial.

    A failure is left out if the trial has already printed it to the terminal.
    """
    if outcome.status != "failed":
        score = "no score" if outcome.score is None else f"{outcome.score:.4f}"
        print(f"trial {job.number} {outcome.status}: {score}", flush=True)
    elif print_failure:
        print(f"trial {job.number} failed: {outcome.failure}", file=sys.stderr, flush=True)
