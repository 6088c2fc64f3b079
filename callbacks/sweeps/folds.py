"""The fits of a run of folds or of a multirun: which fold and seed each is, what it left, and why it left nothing."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from callbacks.runs import outcome
from callbacks.runs.written import read_yaml
from callbacks.sweeps.words import REPLICATE_KEYS, short_names, varied_overrides
from datamodules.refusal import UserError
from lightning_modules import evidence_file
from lightning_modules.checkpoints import FOLD_PATTERN
from lightning_modules.evidence import Evidence


@dataclass(frozen=True)
class FoldRun:
    """One fit of several.

    Attributes:
        folder: Its run folder.
        fold: Which of the folds is its val, None where there are none.
        folds: How many there are.
        seed: Of the fit.
        variant: What it differs in from others besides fold and seed, in words.
        missing_reason: Why there is nothing to merge of it, in words; None where there is.
        report: Its report.json.
        evidence: Split -> evidence, as far as it was asked for.
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
        """Such as `fold 3, seed 1`."""
        return f"seed {self.seed}" if self.fold is None else f"fold {self.fold}, seed {self.seed}"

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration."""
        return self.report.get("config") or {}


def load_fold_runs(folder: Path) -> list[FoldRun]:
    """Those of a run of folds, of a multirun, or that a merged page lists; empty where it is none of these."""
    return [load_fold_run(path, arm) for path, arm in find_fold_run_folders(folder)]


def find_fold_run_folders(folder: Path) -> list[tuple[Path, str]]:
    """Where they are and of which arm, without looking into them."""
    if (folder / "fold0").is_dir():
        return [(path, "") for path in _list_fold_folders(folder)]
    trials = _list_trial_folders(folder)
    return (
        list(_iter_sweep_folders(folder, trials))
        if trials
        else [((folder / fit).resolve(), "") for fit in _read_listed_folders(folder)]
    )


def _read_listed_folders(folder: Path) -> list[str]:
    """The fits of a page that is neither."""
    try:
        return [
            fit["folder"]
            for fit in json.loads((folder / "report.json").read_text(encoding="utf-8")).get(
                "fits", []
            )
        ]
    except (OSError, ValueError, AttributeError):
        return []


def _list_fold_folders(folder: Path) -> list[Path]:
    return sorted(
        (path for path in folder.iterdir() if FOLD_PATTERN.fullmatch(path.name)),
        key=_folder_sort_key,
    )


def _list_trial_folders(folder: Path) -> list[Path]:
    """The jobs of a multirun, those that failed too."""
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
        names = short_names(
            own
        )  # the seed of the split is told from that of the fit by its longer name
        arm = ", ".join(
            f"{names[key]}={value}" for key, value in own.items() if key not in REPLICATE_KEYS
        )
        for fit in _list_fold_folders(trial) or [trial]:
            yield fit, arm


def _read_requested_fold(folder: Path) -> tuple[dict[str, Any], str | None]:
    """Fold, folds and seed that a run was asked for, of one that ended early as Hydra wrote them; and which file is damaged, in words."""
    damaged = None
    for path in (folder / "config.yaml", folder / ".hydra" / "config.yaml"):
        try:
            found = read_yaml(path)
            fold = None if found.get("fold") is None else int(found["fold"])
            return {
                "fold": fold,
                "folds": int(found.get("folds") or 0),
                "seed": int(found.get("seed") or 0),
            }, damaged
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError):
            damaged = damaged or (f"{path} cannot be read" if path.is_file() else None)
    return {"fold": None, "folds": 0, "seed": 0}, damaged


def load_fold_run(folder: Path, variant: str = "") -> FoldRun:
    """One fit; damaged files are a reason why there is nothing to merge of it, and no error.

    Args:
        folder: Its run folder.
        variant: In words.
    """
    asked, damaged = _read_requested_fold(folder)
    found = FoldRun(
        folder,
        **asked | ({"fold": int(folder.name[4:])} if FOLD_PATTERN.fullmatch(folder.name) else {}),
        variant=variant,
    )
    try:
        lacking = _unfinished_reason(folder) or damaged
        if lacking:
            return replace(found, missing_reason=lacking)
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        _ = report["title"], report["heads"], report["data"]["near_duplicates"]
        splits = [split for split in ("val", "test") if split in report["scores"]]
        evidence = {
            split: evidence_file.read_evidence(folder / "evidence" / f"{split}.npz")
            for split in splits
        }
        return replace(found, report=report, evidence=evidence)
    except (OSError, ValueError, KeyError, TypeError):
        return replace(found, missing_reason=f"{folder / 'report.json'} cannot be read")
    except UserError as refusal:
        return replace(found, missing_reason=str(refusal))


def _unfinished_reason(folder: Path) -> str | None:
    ended = outcome.read_outcome(folder)
    if ended is None:
        return "it was cut off"
    if ended["status"] != "finished":
        return " ".join(str(ended.get("failure") or f"it was {ended['status']}").split())
    return (
        None
        if (folder / "report.json").is_file()
        else "it was not tested, so there is nothing to judge"
    )
