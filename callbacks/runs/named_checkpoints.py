"""Checkpoints that the configuration names."""

from pathlib import Path

from omegaconf import DictConfig

from callbacks.runs import resume
from callbacks.sweeps.ensembling import ensemble_key
from callbacks.sweeps.folds import find_fold_run_folders
from lightning_modules import checkpoints


def find_start_checkpoint(cfg: DictConfig) -> Path | None:
    """Return the checkpoint to resume or test: the run's own, else what `ckpt_path` names."""
    return resume.find_resume_checkpoint(cfg) or resolve_checkpoint(cfg, "ckpt_path")


def resolve_checkpoint(cfg: DictConfig, key: str) -> Path | None:
    """Return the checkpoint that `ckpt_path` or `init_from` names, of several fits the first."""
    if not cfg[key]:
        return None
    path = cfg[key]
    if ensemble_key(cfg) == key:
        path = str(find_fold_run_folders(Path(path).expanduser())[0][0])
    return checkpoints.find_checkpoint(
        path, "last" if "fit" in cfg.do and key == "ckpt_path" else "best"
    )
