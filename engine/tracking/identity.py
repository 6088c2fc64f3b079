"""Identity of a run on W&B: group, name, and the id under which it is resumed."""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from engine.resume import find_resume_checkpoint

ID_FILE = "wandb_run.txt"  # file in the run folder
OWN = re.compile(
    r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d([-_]\d+)?|slurm-[\d.]+"
)  # folder names that this project makes, not a user
FOLD_PATTERN = re.compile(r"fold(\d+)")


@dataclass(frozen=True)
class RunIdentity:
    """Identity of a run among others.

    Attributes:
        group: Group of the trials of a sweep or the folds of a run; None for a single run.
        name: Name of the run.
        job_type: `train`, or the name of another step.
    """

    group: str | None
    name: str
    job_type: str


def run_identity(cfg: DictConfig, experiment: str) -> RunIdentity:
    """Derive the identity from the run folder; folder names given by a user are hashed.

    Args:
        cfg: Configuration of the run.
        experiment: Name of its file in conf/experiment.
    """
    folder, parts = Path(cfg.paths.run).absolute(), []
    job = "train" if "fit" in cfg.do else str(cfg.do[0])
    fold = FOLD_PATTERN.fullmatch(folder.name) if cfg.folds else None
    if fold:
        folder, parts = folder.parent, [f"fold {fold[1]}"]
    elif cfg.fold is not None:
        parts = [f"fold {cfg.fold}"]
    if in_multirun(folder):
        return RunIdentity(
            _run_label(folder.parent, experiment),
            ", ".join([f"trial {_trial_identity(folder)}", *parts]),
            job,
        )
    label = _run_label(folder, experiment)
    return (
        RunIdentity(label, parts[0], job)
        if fold
        else RunIdentity(None, ", ".join([label, *parts]), job)
    )


def in_multirun(folder: Path) -> bool:
    """Return True if a run folder belongs to a multirun."""
    return (folder.parent / "multirun.yaml").is_file()


def _trial_identity(folder: Path) -> str:
    """Return the trial's number, or a hash if `hydra.sweep.subdir` gives other names."""
    return folder.name if folder.name.isdecimal() else _short_hash(folder)


def _short_hash(folder: Path) -> str:
    return sha256(os.fsencode(folder)).hexdigest()[:8]


def _run_label(folder: Path, experiment: str) -> str:
    return f"{experiment} {folder.name if OWN.fullmatch(folder.name) else _short_hash(folder)}"


def wandb_init_kwargs(cfg: DictConfig, experiment: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the arguments of `wandb.init`: keys come first, then the environment.

    Under a W&B agent its sweep sets group, name and job type.

    Args:
        cfg: Configuration of the run.
        experiment: Its name in the menu.
        asked: The user's keys; None means not set.
    """
    found = {name: value for name, value in asked.items() if value is not None}
    if "WANDB_SWEEP_ID" not in os.environ:
        own, message = (
            run_identity(cfg, experiment),
            {"group": "WANDB_RUN_GROUP", "name": "WANDB_NAME", "job_type": "WANDB_JOB_TYPE"},
        )
        found = {
            name: getattr(own, name)
            for name, variable in message.items()
            if not os.environ.get(variable)
        } | found
    return found | {"dir": str(cfg.paths.run), "id": run_id(cfg)}


def chosen_experiment() -> str:
    """Return the name of the experiment that Hydra composed."""
    return (
        str(HydraConfig.get().runtime.choices["experiment"]) if HydraConfig.initialized() else "run"
    )


def run_id(cfg: DictConfig) -> str | None:
    """Return the id of the resumed run, or a new one; a fit keeps it in the run folder.

    It is None if W&B or the user has set one. A trial that starts from another run's checkpoint
    gets a new id, because several trials may start from it.
    """
    if "WANDB_SWEEP_ID" in os.environ or "WANDB_RUN_ID" in os.environ:
        return None
    folder = Path(cfg.paths.run)
    places = [folder] if find_resume_checkpoint(cfg) else []
    if "fit" in cfg.do and cfg.ckpt_path and not places and not in_multirun(folder.absolute()):
        start = Path(cfg.ckpt_path).expanduser()
        places = [start, *start.parents[:2]]
    known = [
        (place / ID_FILE).read_text(encoding="utf-8").strip()
        for place in places
        if (place / ID_FILE).is_file()
    ]
    found = known[0] if known else secrets.token_hex(4)
    if (
        "fit" in cfg.do
    ):  # a test in the run's own folder is a run of its own; the fit continues under its own id
        (folder / ID_FILE).write_text(found + "\n", encoding="utf-8")
    return found
