"""A trial as the launcher gets it, and how any launcher of Hydra carries out trials that are not known beforehand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from callbacks.runs import outcome
from datamodules.refusal import UserError


@dataclass(frozen=True)
class Job:
    """One trial.

    Attributes:
        number: Also the name of its folder.
        overrides: Of its command line.
        sweep_dir: The sweep's folder.
        display_overrides: The words that tell it from others.
    """

    number: int
    overrides: Sequence[str]
    sweep_dir: Path
    display_overrides: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        """The trial's own folder."""
        return self.sweep_dir / str(self.number)


TrialEndHook = Callable[[Job], None]


@runtime_checkable
class StreamingLauncher(Protocol):
    """A launcher that takes the next trial when it has a place for it."""

    def launch_jobs(
        self, jobs: Iterator[Job], n_jobs: int | None, on_trial_end: TrialEndHook
    ) -> bool:
        """Whether it was stopped before all were carried out."""


def launch_jobs(
    launcher: Any, jobs: Iterator[Job], n_jobs: int | None, on_trial_end: TrialEndHook
) -> bool:
    """Carries out trials by any launcher; one that is not ours gets `n_jobs` at a time and is waited for.

    Args:
        launcher: Of Hydra.
        jobs: The next is taken when there is a place for it.
        n_jobs: At a time; None leaves it to the launcher.
        on_trial_end: Called in this process for each trial that has ended, also one that failed.

    Returns:
        Whether it was stopped before all were carried out.
    """
    if isinstance(launcher, StreamingLauncher):
        return launcher.launch_jobs(jobs, n_jobs, on_trial_end)
    together = n_jobs or 1
    if together > 1 and "basic_launcher" in type(launcher).__module__:
        raise UserError(
            f"hydra.sweeper.n_jobs={together}: hydra/launcher=basic carries out one trial at a"
            " time; leave hydra/launcher= out"
        )
    while batch := list(islice(jobs, together)):
        follow = [job.number for job in batch] == list(
            range(batch[0].number, batch[0].number + len(batch))
        )
        for part in (
            [batch] if follow else [[job] for job in batch]
        ):  # Hydra numbers the jobs of a launch one after the other
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
    except Exception as error:  # a job of a cluster that died takes the launch with it; the others' outcomes are not known yet
        if len(batch) > 1:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"a job of the cluster was lost ({said}); the same command goes on once the others"
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
        outcome.finalize_outcome(job.folder, 1 if why else 0, why)
        on_trial_end(job)


def stop_message(sweep_dir: Path, resume: bool = False) -> str:
    """What is said after a stop; the trials of a grid go on where they are told to."""
    return (
        "the sweep was stopped; the same command with"
        f" hydra.sweep.dir={sweep_dir}{' resume=auto' * resume} goes on"
    )
