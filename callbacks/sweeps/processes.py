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
from callbacks.runs.launched import cleaned_environment, refuse_ranks
from callbacks.runs.run_folder import FOLDER_IN_USE, FolderInUse
from callbacks.sweeps.child import Start, carry_out
from callbacks.sweeps.forked import begin, process
from callbacks.sweeps.job import Ended, Job
from callbacks.sweeps.places import Place, places

LOG = "console.log"


@dataclass
class Running:
    """A trial and its process."""

    job: Job
    place: Place
    process: BaseProcess
    began: float = field(default_factory=time.monotonic)


class Processes:
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
        self._running: dict[int, Running] = {}  # by what says that the process has ended
        self._asked = 0  # to stop

    def carry_out(
        self, jobs: Iterator[Job], n_jobs: int | None, ended: Ended, alone: bool = False
    ) -> bool:
        """Takes the next trial when there is a place for it.

        Args:
            jobs: Trials.
            n_jobs: At a time; None: one a GPU, else one.
            ended: Called for each that has ended.
            alone: Trials have several processes, so that each needs the whole machine.

        Returns:
            Whether it was stopped; trials that were running have saved and left no outcome.
        """
        refuse_ranks()
        free = places(self.config, n_jobs, alone)
        several = len(free) > 1
        begin(self.preload)
        try:
            with self._listening():
                while True:
                    while free and not self._asked and (job := next(jobs, None)) is not None:
                        self._start(job, free.pop(0), several)
                    if not self._running:
                        return bool(self._asked)
                    for sentinel in wait(list(self._running)):
                        free.insert(0, self._end(self._running.pop(sentinel), several, ended))  # type: ignore[arg-type]
        finally:
            self._end_all()
            for running in self._running.values():
                running.process.join()

    def _start(self, job: Job, place: Place, several: bool) -> None:
        log = job.folder / LOG if several else None
        print(
            f"trial {job.number}: {' '.join(job.shown)}" + (f" ({log})" if log else ""), flush=True
        )
        start = Start(
            self.context,
            self.task,
            self.config,
            Singleton.get_state(),
            job,
            place,
            cleaned_environment(),
            log,
        )
        started = process(carry_out, cloudpickle.dumps(start))
        started.start()
        self._running[started.sentinel] = Running(job, place, started)
        if self._asked:
            started.terminate()

    def _end(self, running: Running, several: bool, ended: Ended) -> Place:
        running.process.join()
        code, folder = running.process.exitcode, running.job.folder
        if code == FOLDER_IN_USE:
            self._end_all()
            raise FolderInUse(
                f"trial {running.job.number} would train in a folder that another run uses; name"
                " another hydra.sweep.dir"
            )
        lost = code != 0 or (outcome.read(folder) or {"status": "failed"})["status"] == "failed"
        said = outcome.settle(
            folder, outcome.STOPPED if self._asked and lost else code
        )  # what fails when it is asked to stop has not failed
        if said is None:
            self._asked = self._asked or 1
            self._end_all()
        else:
            if "seconds" not in said:
                outcome.lasted(folder, time.monotonic() - running.began)
            _tell(running.job, said, loud=several or (code or 0) < 0)
            ended(running.job)
        return running.place

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Ctrl-C and a termination are handed on: trials save, the sweep stops. From a terminal Ctrl-C reaches the trials too, and does no harm."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        self._end_all(at_once=self._asked > 1)

    def _end_all(self, at_once: bool = False) -> None:
        for running in list(self._running.values()):
            running.process.kill() if at_once else running.process.terminate()


def _tell(job: Job, said: dict[str, Any], loud: bool) -> None:
    """One line for a trial that has ended; how it failed, a trial says itself where its words are seen."""
    if said["status"] == "failed":
        (
            print(f"trial {job.number} failed: {said['failure']}", file=sys.stderr, flush=True)
            if loud
            else None
        )
    else:
        score = "no score" if said["score"] is None else f"{said['score']:.4f}"
        print(f"trial {job.number} {said['status']}: {score}", flush=True)
