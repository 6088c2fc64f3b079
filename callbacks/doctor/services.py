"""Checks of W&B's login, the hub's cache and Slurm, without asking any server."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from callbacks.dashboard.login import is_logged_in
from callbacks.doctor.devices import n_devices
from callbacks.doctor.finding import CheckResult, Issue

TRUE_VALUES = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads it
HUB_HOME = "~/.cache/huggingface"


def check_wandb(cfg: DictConfig) -> CheckResult:
    """Check for a W&B login; nothing of it is shown."""
    login = is_logged_in()
    mode = os.environ.get("WANDB_MODE", "online")
    logger = cfg.logger.get("wandb")
    said = (
        f"{'login found' if login else 'no login'}, WANDB_MODE={mode},"
        f" {'used' if logger else 'not used'} by this run"
    )
    known = {"login": login, "mode": mode, "used": logger is not None}
    if logger and not login and mode == "online" and logger.mode == "online":
        what = "logger=wandb, but there is no login, so the run will be kept offline"
        return CheckResult(
            {"W&B": said},
            known,
            (Issue("warning", what, "log in with wandb login, or set WANDB_API_KEY"),),
        )
    return CheckResult({"W&B": said}, known)


def check_hub(cfg: DictConfig) -> CheckResult:
    """Check that the pretrained weights of the experiment can come from somewhere."""
    place = os.environ.get("HF_HOME", HUB_HOME)
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE_VALUES
    stored = len(list(Path(place).expanduser().glob("hub/models--*")))
    asked = dict(requested_weights(cfg))
    wants = ", ".join(f"{key}={value}" for key, value in asked.items()) or "no pretrained weights"
    said = (
        f"{place}: {stored} models; {'offline (HF_HUB_OFFLINE)' if offline else 'online'}; this run"
        f" asks for {wants}"
    )
    known = {"home": place, "offline": offline, "models": stored, "asked": list(asked)}
    if asked and offline and not stored:
        key = next(iter(asked))
        what = (
            f"{key}={asked[key]} asks for pretrained weights, but HF_HUB_OFFLINE is set and {place}"
            " holds no model"
        )
        mend = (
            "unset HF_HUB_OFFLINE, set HF_HOME to a filled cache, or start from scratch with"
            f" {key}=null"
        )
        return CheckResult({"hub": said}, known, (Issue("stops a run", what, mend),))
    return CheckResult({"hub": said}, known)


def requested_weights(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the network's keys that name weights of a hub, and their values.

    Local files and folders are left out.
    """

    def below(node: DictConfig, prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in node.items():
            if OmegaConf.is_dict(value):
                yield from below(value, f"{prefix}{name!s}.")
            elif (
                str(name).split("_")[-1] == "weights"
                and isinstance(value, str)
                and not Path(value).expanduser().exists()
            ):
                yield f"{prefix}{name!s}", value

    yield from below(cfg.module.net, "module.net.")


def check_slurm(cfg: DictConfig) -> CheckResult:
    """Report whether jobs can be submitted, and whether the current job fits the run."""
    sends, job = shutil.which("sbatch") is not None, os.environ.get("SLURM_JOB_ID")
    said = f"{'sbatch is there' if sends else 'no sbatch'}, {'in a job' if job else 'not in a job'}"
    known = {"sbatch": sends, "job": job is not None}
    alone = "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in (
        "bash",
        "interactive",
    )
    if job is None or alone:  # then Lightning starts its processes itself
        return CheckResult({"Slurm": said}, known)
    asked = (
        ("SLURM_NTASKS_PER_NODE", "devices", n_devices(cfg)),
        ("SLURM_NNODES", "num_nodes", cfg.trainer.num_nodes),
    )
    found = []
    for variable, key, here in asked:
        given = os.environ.get(variable)
        if given and int(given) != here:
            what = f"the Slurm job has {variable}={given}, but trainer.{key} comes to {here}"
            found.append(
                Issue("stops a run", what, f"take trainer.{key}={given}, or ask Slurm for {here}")
            )
    return CheckResult({"Slurm": said}, known, tuple(found))
