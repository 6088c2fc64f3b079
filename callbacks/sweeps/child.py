"""One trial in its own process: as Hydra would run it in the sweep's, with what it prints and sees arranged before."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from callbacks.runs import outcome
from callbacks.runs.run_folder import FOLDER_IN_USE, FolderInUse, lock
from callbacks.sweeps.job import Job
from callbacks.sweeps.places import VISIBLE, Place


@dataclass(frozen=True)
class Start:
    """All that a trial's process is given.

    Attributes:
        context: Hydra's.
        task: What a run is.
        config: Of the sweep.
        state: Of Hydra's singletons.
        job: Which trial.
        place: Where it runs.
        environment: Of the sweep's process.
        log: Takes what it prints, where several print at the same time.
    """

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    state: Any
    job: Job
    place: Place
    environment: dict[str, str]
    log: Path | None


def carry_out(packed: bytes) -> None:
    """Carries out the trial; how it ended stands in its folder.

    Args:
        packed: A `Start`; Hydra's state holds what only cloudpickle packs.
    """
    start: Start = pickle.loads(packed)
    os.environ.clear()
    os.environ.update(start.environment)
    folder = start.job.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock(
            folder, start.job.words, wait_for_own=True
        )  # before Hydra writes into a folder that may be another run's
    except FolderInUse as refusal:
        print(f"trial {start.job.number}: {refusal}", file=sys.stderr)
        sys.exit(FOLDER_IN_USE)
    _arrange(start)
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    Singleton.set_state(start.state)
    setup_globals()
    try:
        _run(start)
    except KeyboardInterrupt:
        sys.exit(outcome.STOPPED)
    except Exception as error:
        from callbacks.runs.sentences import sentence_of

        said = (sentence_of(error) or (f"{type(error).__name__}: {error}", 1))[0]
        outcome.write(folder, None, said)
        print(f"trial {start.job.number} failed: {said}", file=sys.stderr)
        sys.exit(1)


def _arrange(start: Start) -> None:
    """Its GPU, its threads and its log."""
    if start.place.gpu is not None:
        os.environ[VISIBLE] = start.place.gpu
    if start.place.threads is not None:
        import torch

        torch.set_num_threads(start.place.threads)
    if start.log is not None:
        with start.log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)


def _end_with_the_sweep() -> None:
    """A trial whose sweep was killed saves and ends, as if it had been asked to."""
    sweep = multiprocessing.parent_process()
    if sweep is not None:
        sweep.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run(start: Start) -> None:
    config = start.context.config_loader.load_sweep_config(start.config, list(start.job.words))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = str(start.job.number), start.job.number
    returned = run_job(start.task, config, "hydra.sweep.dir", "hydra.sweep.subdir", start.context)
    _ = returned.return_value  # raises what the task raised
