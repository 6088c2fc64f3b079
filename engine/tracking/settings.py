"""Name and settings of a run, as trackers other than W&B show them."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from engine.tracking.identity import RunIdentity, run_identity
from engine.tracking.privacy import UploadPolicy, redact_config


def describe_run(run_dir: str | Path, experiment: str) -> tuple[RunIdentity, dict[str, Any]]:
    """Return the identity of a run, and its configuration without names of files and folders.

    Args:
        run_dir: The run folder, with its config.yaml.
        experiment: Name in the menu.
    """
    cfg = OmegaConf.load(Path(run_dir) / "config.yaml")
    if not isinstance(cfg, DictConfig):
        raise TypeError(f"{run_dir}/config.yaml holds no configuration")
    plain: Any = OmegaConf.to_container(cfg)
    settings = {"experiment": experiment, **redact_config(plain, UploadPolicy())}
    return run_identity(cfg, experiment), settings
