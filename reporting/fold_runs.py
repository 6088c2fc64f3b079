"""Load the fits of a run of folds, of a multirun over folds and seeds, or of a merged page."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from evaluation.evidence import Evidence
from reporting.config_diff import REPLICATE_KEYS, short_names
from reporting.run_folder import FOLD_PATTERN, REPORT_FILE, RunFolder
from reporting.trials import varied_overrides


@dataclass(frozen=True)
class FoldRun:
    """One fit of several.

    Attributes:
        folder: Its run folder.
        fold: Fold that is its val; None without folds.
        folds: Number of folds.
        seed: Seed of the fit.
        variant: Overrides that differ between fits, besides fold and seed, in words.
        missing_reason: Reason why it cannot be merged, in words; None if it can.
        report: Its report.json.
        evidence: Split -> evidence, of val and test as far as the report scores them.
    """

    folder: Path
    fold: int | None
    folds: int
    seed: int
    variant: str = ""
    missing_reason: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name such as `fold 3, seed 1`."""
        return f"seed {self.seed}" if self.fold is None else f"fold {self.fold}, seed {self.seed}"

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration."""
        return self.report.get("config") or {}


def load_fold_runs(folder: Path) -> list[FoldRun]:
    """Load the fits of a run of folds, a multirun or a merged page; empty for other folders."""
    return [load_fold_run(path, variant) for path, variant in find_fold_run_folders(folder)]


def find_fold_run_folders(folder: Path) -> list[tuple[Path, str]]:
    """Find the folders of the fits and their variants, without reading the fits."""
    if (folder / "fold0").is_dir():
        return [(path, "") for path in _list_fold_folders(folder)]
    trials = _list_trial_folders(folder)
    return (
        list(_iter_sweep_folders(folder, trials))
        if trials
        else [((folder / fit).resolve(), "") for fit in _read_listed_folders(folder)]
    )


def _read_listed_folders(folder: Path) -> list[str]:
    """Read the folders of the fits that a merged page lists."""
    run = RunFolder(folder)
    try:
        return [fit["folder"] for fit in run.report.get("fits", [])] if run.has_report else []
    except UserError:  # a reader of the page itself gets the error
        return []


def _list_fold_folders(folder: Path) -> list[Path]:
    return sorted(
        (path for path in folder.iterdir() if FOLD_PATTERN.fullmatch(path.name)),
        key=_folder_sort_key,
    )


def _list_trial_folders(folder: Path) -> list[Path]:
    """List the trials of a multirun, including those that failed."""
    if not (folder / "multirun.yaml").is_file():
        return []
    found = [
        path.parent
        for path in folder.glob("*/.hydra")
        if not FOLD_PATTERN.fullmatch(path.parent.name)
    ]
    return sorted(found, key=_folder_sort_key)


def _folder_sort_key(path: Path) -> tuple[int, str]:
    digits = re.search(r"\d+$", path.name)
    return int(digits[0]) if digits else -1, path.name


def _iter_sweep_folders(folder: Path, trials: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    words = varied_overrides(folder)
    for trial in trials:
        own = words.get(trial.name, {})
        names = short_names(own)  # the seed of the split has a longer name than that of the fit
        variant = ", ".join(
            f"{names[key]}={value}" for key, value in own.items() if key not in REPLICATE_KEYS
        )
        for fit in _list_fold_folders(trial) or [trial]:
            yield fit, variant


def _read_requested_fold(run: RunFolder) -> tuple[dict[str, Any], str | None]:
    """Read the fold, folds and seed of a run's configuration, and name a damaged file.

    For a run that ended early they are read from the configuration that Hydra wrote.
    """
    damaged = None
    for read in (lambda: run.config, lambda: run.unresolved_config):
        try:
            config = read()
        except UserError as refusal:
            damaged = damaged or str(refusal)
            continue
        if config:
            fold = config.get("fold")
            return {
                "fold": None if fold is None else int(fold),
                "folds": int(config.get("folds") or 0),
                "seed": int(config.get("seed") or 0),
            }, damaged
    return {"fold": None, "folds": 0, "seed": 0}, damaged


def load_fold_run(folder: Path, variant: str = "") -> FoldRun:
    """Load one fit; damaged files become its `missing_reason` instead of an error.

    Args:
        folder: Its run folder.
        variant: Variant in words.
    """
    run = RunFolder(folder)
    asked, damaged = _read_requested_fold(run)
    found = FoldRun(
        folder,
        **asked | ({"fold": int(folder.name[4:])} if FOLD_PATTERN.fullmatch(folder.name) else {}),
        variant=variant,
    )
    try:
        missing = _unfinished_reason(run) or damaged
        if missing:
            return replace(found, missing_reason=missing)
        report = run.report
        _ = report["headline_metrics"], report["data"]["near_duplicates"]
        evidence = {
            split: run.read_evidence(split)
            for split in ("val", "test")
            if split in report["scores"]
        }
        return replace(found, report=report, evidence=evidence)
    except KeyError as error:
        return replace(found, missing_reason=f"{folder / REPORT_FILE} has no {error}")
    except UserError as refusal:
        return replace(found, missing_reason=str(refusal))


def _unfinished_reason(run: RunFolder) -> str | None:
    outcome = run.outcome
    if outcome is None or outcome.status == "running":
        return "it did not reach its end"
    if outcome.status != "finished":
        return " ".join((outcome.failure or f"it was {outcome.status}").split())
    return None if run.has_report else "it was not tested, so it has no scores"
