"""Trials in processes of their own, forked from one that has imported everything before any call of CUDA. The sweep's own process stays light."""

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from callbacks.runs import outcome
from callbacks.runs.launched import check_multirun_launch, env_without_rank
from callbacks.runs.run_folder import FOLDER_IN_USE, FolderInUse
from callbacks.sweeps.child import TrialSpec, run_trial
from callbacks.sweeps.forked import new_process, start_forkserver
from callbacks.sweeps.job import Job, TrialEndHook
from callbacks.sweeps.places import DeviceSlot, device_slots

CONSOLE_LOG = "console.log"


@dataclass
class RunningTrial:
    """A trial and its process."""

    job: Job
    device_slot: DeviceSlot
    process: BaseProcess
    started_at: float = field(default_factory=time.monotonic)


class ProcessPool:
    """Carries out trials of one sweep.

    Args:
        context: Hydra's.
        task: What a run is.
        config: Of the sweep.
        preload: Modules that are imported once, in the process that trials are forked from.
    """

    def __init__(
        self, context: HydraContext, task: TaskFunction, config: DictConfig, preload: Sequence[str]
    ) -> None:
        self.context, self.task, self.config, self.preload = context, task, config, list(preload)
        self._running: dict[int, RunningTrial] = {}  # by what says that the process has ended
        self._stop_requests = 0  # to stop

    def launch_jobs(
        self,
        jobs: Iterator[Job],
        n_jobs: int | None,
        on_trial_end: TrialEndHook,
        multi_process: bool = False,
    ) -> bool:
        """Takes the next trial when there is a place for it.

        Args:
            jobs: Trials.
            n_jobs: At a time; None: one a GPU, else one.
            on_trial_end: Called for each that has ended.
            multi_process: Trials have several processes, so that each needs the whole machine.

        Returns:
            Whether it was stopped; trials that were running have saved and left no outcome.
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
        lost = (
            code != 0
            or (outcome.read_outcome(folder) or {"status": "failed"})["status"] == "failed"
        )
        said = outcome.finalize_outcome(
            folder, outcome.STOPPED if self._stop_requests and lost else code
        )  # what fails when it is asked to stop has not failed
        if said is None:
            self._stop_requests = self._stop_requests or 1
            self._stop_trials()
        else:
            if "seconds" not in said:
                outcome.set_duration(folder, time.monotonic() - running.started_at)
            _print_outcome(running.job, said, print_failure=log_to_file or (code or 0) < 0)
            on_trial_end(running.job)
        return running.device_slot

    @contextmanager
    def _forwarding_signals(self) -> Iterator[None]:
        """Ctrl-C and a termination are handed on: trials save, the sweep stops. From a terminal Ctrl-C reaches the trials too, and does no harm."""
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


def _print_outcome(job: Job, run_outcome: dict[str, Any], print_failure: bool) -> None:
    """One line for a trial that has ended; how it failed, a trial says itself where its words are seen."""
    if run_outcome["status"] == "failed":
        (
            print(
                f"trial {job.number} failed: {run_outcome['failure']}", file=sys.stderr, flush=True
            )
            if print_failure
            else None
        )
    else:
        score = "no score" if run_outcome["score"] is None else f"{run_outcome['score']:.4f}"
        print(f"trial {job.number} {run_outcome['status']}: {score}", flush=True)
