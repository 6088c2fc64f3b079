"""hydra/launcher=processes: launcher that runs each trial in a clean process.

This module imports nothing heavy, because Hydra loads it before every run.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from engine.sweeps.process_launcher import Job, ProcessPool, TrialEndHook


class ProcessLauncher(Launcher):
    """Hydra launcher that runs trials with `engine/sweeps/process_launcher.py`.

    Example:
        hydra: {launcher: {_target_:
            hydra_plugins.medical_lightning.process_launcher.ProcessLauncher, n_jobs: 1, preload:
            [run]}}

    Args:
        n_jobs: Trials at a time; None means one per GPU, or one on a CPU.
        preload: Modules that are imported once.
    """

    def __init__(self, n_jobs: int | None, preload: Sequence[str]) -> None:
        self.n_jobs = n_jobs
        self.preload = list(preload)
        self._processes: ProcessPool | None = None
        self._sweep = Path()

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Prepare the processes; none is started yet."""
        from engine.sweeps.process_launcher import ProcessPool

        self._processes = ProcessPool(hydra_context, task_function, config, self.preload)
        self._sweep = Path(config.hydra.sweep.dir).absolute()

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run trials for Hydra's own sweepers."""
        from engine.sweeps.process_launcher import Job, stop_message
        from reporting.outcome import STOPPED, read_outcome_if_valid

        common = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
        jobs = [
            Job(
                initial_job_idx + place,
                words,
                self._sweep,
                [word for word in words if word not in common],
            )
            for place, words in enumerate(job_overrides)
        ]
        if self._processes is None or self._processes.launch_jobs(
            iter(jobs), self.n_jobs, lambda job: None, any(map(_several, jobs))
        ):
            print(stop_message(self._sweep, resume=True), file=sys.stderr)
            raise SystemExit(STOPPED)
        outcomes = [read_outcome_if_valid(job.folder) for job in jobs]
        scores = [None if outcome is None else outcome.score for outcome in outcomes]
        return [
            JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=score)
            for job, score in zip(jobs, scores, strict=True)
        ]

    def launch_jobs(
        self, jobs: "Iterator[Job]", n_jobs: int | None, on_trial_end: "TrialEndHook"
    ) -> bool:
        """Run trials as slots become free; return True if it was stopped before all were run."""
        return self._processes is not None and self._processes.launch_jobs(
            jobs, n_jobs or self.n_jobs, on_trial_end
        )


def _several(job: "Job") -> bool:
    """Return True if a trial's own overrides ask for several devices or nodes."""
    words = [word.lstrip("+").split("=", 1) for word in job.overrides if "=" in word]
    return any(
        key in ("trainer.devices", "trainer.num_nodes") and value != "1" for key, value in words
    )
