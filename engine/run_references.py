"""References to runs: folders, checkpoints and latest:EXPERIMENT."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from datamodules.errors import UserError
from datamodules.sampling.config import SCORES_FILE
from engine.resume import find_resume_checkpoint
from reporting.commands import PROGRAM
from reporting.fold_runs import find_fold_run_folders
from reporting.run_folder import FOLD_PATTERN, REPORT_FILE, RunFolder, find_checkpoint

REQUIRED_FILES = {
    "datamodule.cls_prob": SCORES_FILE,
    "datamodule.root": "pseudo_labels/manifest.csv",
}  # file that a run must contain
EXPERIMENTS = Path(__file__).parents[1] / "conf" / "experiment"


@dataclass(frozen=True)
class PreparedRun:
    """A run on phantoms that was made first, because another one needs its output.

    Attributes:
        experiment: Its experiment.
        folder: Its run folder.
        seconds: Seconds that it took, from its composition to its report.
    """

    experiment: str
    folder: Path
    seconds: float


def is_latest(named: str | None) -> bool:
    """Return True if a name is of the form `latest:EXPERIMENT`."""
    return named is not None and named.startswith("latest:")


def uses_phantoms(cfg: DictConfig) -> bool:
    """Return True if a run uses phantoms, by its data set or else by its scale."""
    return (
        cfg.datamodule.phantom is not None
        or HydraConfig.get().runtime.choices.get("scale") == "demo"
    )


def latest_run(
    experiment: str, runs: Path, phantom: bool | None, required_file: str = "checkpoints/best.ckpt"
) -> Path | None:
    """Return the run folder for `latest:EXPERIMENT`: the newest one with a report, or None.

    Args:
        experiment: The experiment.
        runs: Folder of all runs, one folder per experiment.
        phantom: True for runs on phantoms, False for others; None takes either.
        required_file: File that the folder must hold. A checkpoint may be that of one fold;
            anything else must be of all folds together.
    """
    reports = {
        path.parent: report
        for path in (runs / experiment).glob(f"**/{REPORT_FILE}")
        if (path.parent / required_file).is_file() and (report := _read_report(path.parent))
    }
    alike = [
        run
        for run, report in reports.items()
        if phantom is None or (report.get("data") or {}).get("phantom") == phantom
    ]
    if not required_file.endswith(".ckpt"):
        alike = [
            run
            for run in alike
            if not FOLD_PATTERN.fullmatch(run.name)
            and (reports[run].get("config") or {}).get("fold") is None
        ]
    return max(alike, key=lambda run: (run / REPORT_FILE).stat().st_mtime, default=None)


def _read_report(folder: Path) -> dict[str, Any]:
    """Read a report.json; a damaged one is reported on stderr and gives {}."""
    try:
        return RunFolder(folder).report
    except UserError as refusal:
        print(f"{folder} is ignored: {refusal}", file=sys.stderr)
        return {}


def resolve_run(named: str, runs: Path, key: str, phantom: bool | None) -> Path | None:
    """Return the run for `latest:EXPERIMENT`.

    Args:
        named: `latest:EXPERIMENT`.
        runs: The folder of all runs.
        key: The key under which the user named it.
        phantom: True for runs on phantoms, False for others; None takes either.

    Returns:
        Its folder; None if there is no run on phantoms yet, which can be made.

    Raises:
        UserError: There is no such experiment, or no such run.
    """
    name = named.removeprefix("latest:")
    if not (EXPERIMENTS / f"{name}.yaml").is_file():
        raise UserError(f"{key}={named} names no experiment; {' '.join(PROGRAM)} --help lists them")
    required = {"required_file": REQUIRED_FILES[key]} if key in REQUIRED_FILES else {}
    run = latest_run(name, runs, phantom, **required)
    if run is None and not phantom:
        kind = "" if phantom is None else " on real data"
        raise UserError(
            f"{key}={named}: there is no finished run of {name}{kind} below {runs}; make one first,"
            " or name a run folder"
        )
    return run


def require_run(cfg: DictConfig, key: str) -> Path:
    """Return the run for a key's `latest:EXPERIMENT`, for a step that does not make missing runs.

    Raises:
        UserError: There is none.
    """
    named = str(OmegaConf.select(cfg, key))
    run = resolve_run(named, Path(cfg.paths.runs), key, phantom=uses_phantoms(cfg))
    if run is None:
        raise UserError(
            f"{key}={named}: there is no run of {named[7:]} on phantoms yet; make it first with"
            f" experiment={named[7:]} scale=demo"
        )
    return run


def find_start_checkpoint(cfg: DictConfig) -> Path | None:
    """Return the checkpoint to resume or test: the run's own, else that of `ckpt_path`."""
    return find_resume_checkpoint(cfg) or resolve_checkpoint(cfg, "ckpt_path")


def resolve_checkpoint(cfg: DictConfig, key: str) -> Path | None:
    """Return the checkpoint that `ckpt_path` or `init_from` names, the first of several fits."""
    if not cfg[key]:
        return None
    path = cfg[key]
    if ensemble_key(cfg) == key:
        path = str(find_fold_run_folders(Path(path).expanduser())[0][0])
    return find_checkpoint(path, "last" if "fit" in cfg.do and key == "ckpt_path" else "best")


def ensemble_key(cfg: DictConfig) -> str | None:
    """Return the key that names several runs, `ckpt_path` or else `init_from`; None if none does.

    It is None for a fit, which starts from one network.
    """
    key = "ckpt_path" if cfg.ckpt_path else "init_from"
    return (
        key
        if "fit" not in cfg.do
        and cfg[key]
        and find_fold_run_folders(Path(str(cfg[key])).expanduser())
        else None
    )
