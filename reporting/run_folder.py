"""Read and write what a run leaves on disk: outcome.json, metrics.csv, config.yaml, report.json."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from datamodules.errors import UserError
from evaluation.bootstrap import CLASS_MEAN
from evaluation.evidence import Evidence, read_evidence
from reporting.config_diff import (
    REPLICATE_KEYS,
    SEED_KEYS,
    SWEEP_OVERRIDE_PREFIXES,
    config_diff,
    flatten_config,
    load_trial_overrides,
    short_names,
    varied_overrides,
)
from reporting.file_io import read_yaml
from reporting.outcome import read_outcome
from reporting.ranking import get_monitor

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 2
FOLD_PATTERN = re.compile(r"fold\d+")  # the folder of one fit of several


def read_epochs(path: Path) -> "pd.DataFrame":
    """Return epoch (from 0) -> logged values, without the validation after the fit.

    Args:
        path: metrics.csv; the table is empty if it is missing or nothing was trained.
    """
    import pandas as pd  # half a second, and a leaderboard needs no curves

    try:
        rows = pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
    if "train/loss" not in rows:
        return pd.DataFrame()
    rows = rows[rows["epoch"].isin(rows["epoch"][rows["train/loss"].notna()])]
    # the first value of each column that is not missing
    return rows.astype({"epoch": int}).groupby("epoch").first()


EVALUATED_SPLITS = ("test", "out_of_fold")  # the splits that a page may lead with


@dataclass(frozen=True)
class FinishedRun:
    """One run.

    Attributes:
        folder: Where it is.
        report: Its report.json.
        evidence: Of the split that its page leads with: test, or of merged folds all images out of
            fold.
    """

    folder: Path
    report: dict[str, Any]
    evidence: Evidence

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Configuration by dotted keys, without the seeds and what names this very run."""
        return {
            key: value
            for key, value in flatten_config(self.report.get("config")).items()
            if key not in SEED_KEYS
        }

    @property
    def evaluated_split(self) -> str:
        """The split whose scores its page leads with."""
        return str(self.report.get("judged", "test"))

    @property
    def monitor(self) -> tuple[str, str]:
        """Name and mode (`max` or `min`) of the monitored score."""
        return get_monitor(self.report.get("config"), self.evidence.headline_metrics[0])

    def score(self, split: str, name: str) -> float:
        """Return a score of a split; of several classes their mean."""
        return get_score(self.report, split, name)


def get_score(report: dict[str, Any], split: str, name: str) -> float:
    """Read a score of a report.json, the mean of several classes; NaN if undefined or not taken."""
    classes = report["scores"].get(split, {})
    if not classes:
        return float("nan")
    value = overall_scores(classes)[name]["value"]
    return float("nan") if value is None else float(value)


def overall_scores(class_scores: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of the only class, or the mean of several classes."""
    return class_scores.get(CLASS_MEAN, next(iter(class_scores.values())))


def group_by_config(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Group runs that differ only in their seed; name arms by title and, if needed, differences."""
    by_title: dict[str, list[FinishedRun]] = {}
    for run in runs:
        by_title.setdefault(str(run.report["title"]), []).append(run)
    words = {}
    for title, alike in by_title.items():
        for run, said in zip(alike, config_diff([run.settings for run in alike]), strict=True):
            words[id(run)] = f"{title} ({', '.join(said.values())})" if said else title
    found: dict[str, list[FinishedRun]] = {}
    for run in runs:
        found.setdefault(words[id(run)], []).append(run)
    return found


def load_finished_runs(folder: Path) -> list[FinishedRun]:
    """Read a run folder, or the runs of a multirun's folder.

    Of a multirun these are its runs over folds where it merged some, else its trials. Those that
    cannot be read are named on stderr and left out.
    """
    if any((folder / "evidence" / f"{judged}.npz").is_file() for judged in EVALUATED_SPLITS):
        return [load_finished_run(folder)]
    merged = sorted(path.parents[1] for path in folder.glob("merged/**/evidence/out_of_fold.npz"))
    trials = sorted(path.parent for path in folder.glob("*/report.json"))
    found = []
    for run in merged or trials:
        try:
            found.append(load_finished_run(run))
        except UserError as refusal:
            print(f"left out: {refusal}", file=sys.stderr)
    return found or [load_finished_run(folder)]


def load_finished_run(folder: Path) -> FinishedRun:
    """Read a run folder.

    Raises:
        UserError: it holds no report or no test evidence, or they cannot be read.
    """
    report = read_report(folder)
    return FinishedRun(
        folder,
        report,
        read_evidence(folder / "evidence" / f"{report.get('judged', 'test')}.npz"),
    )


def read_report(folder: Path) -> dict[str, Any]:
    """Read report.json of a run folder.

    Raises:
        UserError: missing, damaged, or no report.
    """
    path = folder / "report.json"
    if not path.is_file():
        raise UserError(
            f"{folder} holds no report.json, so it is no finished run; name a run folder, or test"
            f" it with do=[test] ckpt_path={folder}"
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report["scores"], dict) or not isinstance(report["title"], str):
            raise TypeError("title or scores are not what they should be")
        if report.get("schema", 1) > SCHEMA:
            raise TypeError(
                f"it is of version {report['schema']}, newer than {SCHEMA}: update this repository"
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path} is not a report that can be read ({said}); test the run again with do=[test]"
            f" ckpt_path={folder}"
        ) from error
    return report


@dataclass(frozen=True)
class FoldRun:
    """One fit of several.

    Attributes:
        folder: Its run folder.
        fold: Fold that is its val; None without folds.
        folds: Number of folds.
        seed: Seed of the fit.
        variant: How it differs from others besides fold and seed, in words.
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
    return [load_fold_run(path, arm) for path, arm in find_fold_run_folders(folder)]


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
        arm = ", ".join(
            f"{names[key]}={value}" for key, value in own.items() if key not in REPLICATE_KEYS
        )
        for fit in _list_fold_folders(trial) or [trial]:
            yield fit, arm


def _read_requested_fold(folder: Path) -> tuple[dict[str, Any], str | None]:
    """Read the fold, folds and seed that a run was asked for, and which file is damaged, in words.

    For a run that ended early they are read from the configuration that Hydra wrote.
    """
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
    """Load one fit; damaged files become its `missing_reason` instead of an error.

    Args:
        folder: Its run folder.
        variant: Variant in words.
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
        evidence = {split: read_evidence(folder / "evidence" / f"{split}.npz") for split in splits}
        return replace(found, report=report, evidence=evidence)
    except (OSError, ValueError, KeyError, TypeError):
        return replace(found, missing_reason=f"{folder / 'report.json'} cannot be read")
    except UserError as refusal:
        return replace(found, missing_reason=str(refusal))


def _unfinished_reason(folder: Path) -> str | None:
    ended = read_outcome(folder)
    if ended is None:
        return "it was cut off"
    if ended["status"] != "finished":
        return " ".join(str(ended.get("failure") or f"it was {ended['status']}").split())
    return (
        None
        if (folder / "report.json").is_file()
        else "it was not tested, so there is nothing to judge"
    )


TrialStatus = Literal["finished", "pruned", "failed", "stopped"]
MAX_TEST_SCORES = 3  # scores on test
UNKNOWN_MONITOR = "–"


@dataclass(frozen=True)
class TrialResult:
    """Result of one trial.

    Attributes:
        folder: Folder of the trial.
        state: How it ended; `stopped` if no file says how.
        overrides: Its own overrides.
        varied_values: Key -> value of what differs between the trials.
        monitor: Name of the score that ranks, such as `val/dice`.
        mode: `max` or `min`.
        score: Monitored score; None without one.
        test: Score -> its value on test.
        trainable_parameters: Number of parameters that were trained.
        seconds: Seconds from its start to its end; for a trial that was cut off, since it was
            resumed.
        failure: Reason why it failed.
        phantom: True if its images are phantoms.
    """

    folder: Path
    state: TrialStatus
    overrides: list[str]
    varied_values: dict[str, str]
    monitor: str
    mode: str
    score: float | None
    test: dict[str, float]
    trainable_parameters: int | None
    seconds: float | None
    failure: str | None
    phantom: bool

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.name

    @property
    def has_page(self) -> bool:
        """True if it was tested, and so has a page."""
        return (self.folder / "report.html").is_file()


def load_trials(sweep_dir: Path) -> list[TrialResult]:
    """Load all trials of a multirun's folder by number, also those that failed or were cut off."""
    differ, said = varied_overrides(sweep_dir), load_trial_overrides(sweep_dir)
    found = [_load_trial(sweep_dir / name, said[name], differ[name]) for name in said]
    known = next(
        (trial for trial in found if trial.monitor != UNKNOWN_MONITOR), None
    )  # a trial that failed at once has none
    return [
        (
            replace(trial, monitor=known.monitor, mode=known.mode)
            if known and trial.monitor == UNKNOWN_MONITOR
            else trial
        )
        for trial in found
    ]


def rank_trials(trials: Iterable[TrialResult]) -> list[TrialResult]:
    """Sort trials, the best first; pruned, failed and stopped ones follow those that finished."""
    order = ("finished", "pruned", "failed", "stopped")
    return sorted(trials, key=lambda t: (order.index(t.state), t.score is None, trial_sort_key(t)))


def trial_sort_key(trial: TrialResult) -> float:
    """Return a sort key that is larger for a worse score."""
    return 0.0 if trial.score is None else trial.score if trial.mode == "min" else -trial.score


def select_best_trial(trials: Iterable[TrialResult]) -> TrialResult | None:
    """Return the best trial that finished with a score; None without one."""
    return next(
        (
            trial
            for trial in rank_trials(trials)
            if trial.state == "finished" and trial.score is not None
        ),
        None,
    )


def _load_trial(
    folder: Path, trial_overrides: list[str], varied_values: dict[str, str]
) -> TrialResult:
    known, report = read_outcome(folder), _read_json_or_empty(folder / "report.json")
    monitor, mode = _find_monitor(folder, report)
    ended = known or (
        {"status": "finished", "score": None, "failure": None}
        if report
        else {"status": "stopped", "score": None, "failure": None}
    )
    score = ended["score"]
    if score is None and ended["status"] == "finished":  # tested alone
        score = _score_or_none(report, "val", monitor.removeprefix("val/"))
    test = {
        name: _score_or_none(report, "test", name)
        for name in report.get("heads", [])[:MAX_TEST_SCORES]
    }
    return TrialResult(
        folder=folder,
        state=ended["status"],
        overrides=[
            word
            for word in trial_overrides
            if not word.lstrip("+~").startswith(SWEEP_OVERRIDE_PREFIXES)
        ],
        varied_values=varied_values,
        monitor=monitor,
        mode=mode,
        score=score,
        test={name: value for name, value in test.items() if value is not None},
        trainable_parameters=(report.get("parameters") or {}).get("trainable"),
        seconds=ended.get("seconds"),
        failure=ended["failure"],
        phantom=bool((report.get("data") or {}).get("phantom")),
    )


def _read_json_or_empty(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _find_monitor(folder: Path, report: dict[str, Any]) -> tuple[str, str]:
    """Return name and mode of the score that ranks.

    For a run that failed too early it is the first score of its page, or a dash.
    """
    try:
        found = (read_yaml(folder / "config.yaml") or {}).get("monitor") or {}
    except (OSError, yaml.YAMLError):
        found = {}
    first = next(iter(report.get("heads", [])), None)
    return found.get("name") or (f"val/{first}" if first else UNKNOWN_MONITOR), found.get(
        "mode"
    ) or "max"


def _score_or_none(report: dict[str, Any], split: str, name: str) -> float | None:

    try:
        value = get_score(report, split, name)
    except (KeyError, TypeError):
        return None
    return value if value == value else None


def find_checkpoint(path: str, which: str) -> Path:
    """Find a checkpoint file, given itself or its run folder.

    Args:
        path: A .ckpt file, or a run folder.
        which: `best` or `last`, where a folder is named.

    Raises:
        UserError: there is none.
    """
    place = Path(path).expanduser()
    for what, inside, such in (
        ("a run of several folds", "fold0", "fold0"),
        ("a multirun", "multirun.yaml", "0"),
    ):
        if (place / inside).exists():
            raise UserError(
                f"{place} is {what}, each of them with its own checkpoints; name one of them, such"
                f" as {place / such}"
            )
    if place.is_dir():
        place = place / "checkpoints" / f"{which}.ckpt"
    if not place.is_file():
        raise UserError(
            f"{place} does not exist; name a .ckpt file, or a run folder that holds"
            f" checkpoints/{which}.ckpt"
        )
    return place
