"""Detection of the launcher of this process: a user, torchrun, srun, or Lightning's own ranks.

This module imports nothing heavy, because run.py needs it first.
"""

import os
from datetime import datetime
from typing import TYPE_CHECKING

from datamodules.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# variables that a trial with its own processes must not inherit
RANK_VARIABLES = (
    "LOCAL_RANK",
    "RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PL_GLOBAL_SEED",
)


def launched_by_torchrun() -> bool:
    """Return True if torchrun started this process, as one of several or alone."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launched_by_srun() -> bool:
    """Return True if srun started this process as one of several."""
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ


def is_requeued() -> bool:
    """Return True if this process belongs to a Slurm job that was started before."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def rank() -> int:
    """Return the rank of this process from the environment; 0 if it is not set."""
    if launched_by_srun():
        return int(os.environ["SLURM_PROCID"])
    given = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
    return int(given) if given.isdecimal() else 0


def forget_foreign_ranks(cfg: "DictConfig") -> None:
    """Delete the rank variables of another program's launcher from the environment.

    A run of one process that neither torchrun nor srun started has rank 0, even if a scheduler set
    rank variables for its own programs.
    """
    if not (is_multi_process(cfg) or launched_by_torchrun() or launched_by_srun()):
        for name in RANK_VARIABLES:
            os.environ.pop(name, None)


def check_multirun_launch() -> None:
    """Refuse a multirun under torchrun or srun, where every rank would run every trial.

    Raises:
        UserError: A launcher started the multirun; the message says how to start it.
    """
    if launched_by_torchrun() or launched_by_srun():
        raise UserError(
            "a multirun under torchrun or srun would run every trial on every rank; start it"
            " without a launcher, or set hydra/launcher=slurm"
        )


def shared_run_name() -> str | None:
    """Return the run folder's name shared by externally started ranks; None to use Hydra's.

    Raises:
        ValueError: torchrun spans several nodes, where ranks cannot agree on a name.
    """
    if launched_by_srun():
        step = int(os.environ.get("SLURM_STEP_ID") or 0)  # one job may have several srun steps
        return f"slurm-{os.environ['SLURM_JOB_ID']}" + (
            f".{step}" if step else ""
        )  # the same name when the job is requeued
    if not launched_by_torchrun():
        return None
    if int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "torchrun on several nodes: the ranks cannot agree on a run folder; set one for all"
            " with"
            " hydra.run.dir=runs/NAME"
        )
    import psutil

    started = datetime.fromtimestamp(psutil.Process(os.getppid()).create_time())
    return (  # all ranks know the launcher's process id, which is unique
        f"{started:%Y-%m-%d_%H-%M-%S}_{os.getppid()}"
    )


def env_without_rank() -> dict[str, str]:
    """Return the environment without the variables that make a process a rank of another run."""
    return {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}


def is_multi_process(cfg: "DictConfig") -> bool:
    """Return True if the run will have several ranks, as far as is known before the start."""
    return cfg.trainer.devices not in (1, "1") or cfg.trainer.num_nodes != 1
