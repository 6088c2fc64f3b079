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
from callbacks.runs.run_folder import FOLDER_IN_USE, FolderInUse, lock_folder
from callbacks.sweeps.job import Job
from callbacks.sweeps.places import VISIBLE_DEVICES_VARIABLE, DeviceSlot


@dataclass(frozen=True)
class TrialSpec:
    """All that a trial's process is given.

    Attributes:
        context: Hydra's.
        task: What a run is.
        config: Of the sweep.
        hydra_state: Of Hydra's singletons.
        job: Which trial.
        device_slot: Where it runs.
        environment: Of the sweep's process.
        log_path: Takes what it prints, where several print at the same time.
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
    """Carries out the trial; how it ended stands in its folder.

    Args:
        pickled_spec: A `TrialSpec`; Hydra's state holds what only cloudpickle packs.
    """
    start: TrialSpec = pickle.loads(pickled_spec)
    os.environ.clear()
    os.environ.update(start.environment)
    folder = start.job.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock_folder(
            folder, start.job.overrides, wait_for_own=True
        )  # before Hydra writes into a folder that may be another run's
    except FolderInUse as refusal:
        print(f"trial {start.job.number}: {refusal}", file=sys.stderr)
        sys.exit(FOLDER_IN_USE)
    _set_up_process(start)
    threading.Thread(target=_terminate_with_parent, daemon=True).start()
    Singleton.set_state(start.hydra_state)
    setup_globals()
    try:
        _run_hydra_job(start)
    except KeyboardInterrupt:
        sys.exit(outcome.STOPPED)
    except Exception as error:
        from callbacks.runs.sentences import user_message

        said = (user_message(error) or (f"{type(error).__name__}: {error}", 1))[0]
        outcome.write_outcome(folder, None, said)
        print(f"trial {start.job.number} failed: {said}", file=sys.stderr)
        sys.exit(1)


def _set_up_process(spec: TrialSpec) -> None:
    """Its GPU, its threads and its log."""
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
    """A trial whose sweep was killed saves and ends, as if it had been asked to."""
    sweep = multiprocessing.parent_process()
    if sweep is not None:
        sweep.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run_hydra_job(spec: TrialSpec) -> None:
    config = spec.context.config_loader.load_sweep_config(spec.config, list(spec.job.overrides))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = str(spec.job.number), spec.job.number
    returned = run_job(spec.task, config, "hydra.sweep.dir", "hydra.sweep.subdir", spec.context)
    _ = returned.return_value  # raises what the task raised
