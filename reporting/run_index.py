"""Index the runs below a folder, cached by the signatures of their files."""

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from datamodules.formats.file_content import plain_sentence
from evaluation.bootstrap import (
    N_RESAMPLES,
    bootstrap_scores,
    n_effective_groups,
    score_interval,
)
from evaluation.evidence import Evidence
from reporting.config_diff import flatten_config
from reporting.outcome import OUTCOME_FILE, Outcome
from reporting.ranking import get_monitor
from reporting.run_folder import (
    CONFIG_FILE,
    EVALUATED_SPLITS,
    FOLD_PATTERN,
    METRICS_FILE,
    REPORT_FILE,
    RunFolder,
    get_score,
    overall_scores,
)

RUN_MARKERS = (CONFIG_FILE, REPORT_FILE)  # one of them at least is in a run folder
WATCHED_FILES = (
    *RUN_MARKERS,
    OUTCOME_FILE,
    METRICS_FILE,
    "checkpoints/last.ckpt",
    *(f"evidence/{split}.npz" for split in EVALUATED_SPLITS),
)  # what is looked at

FileSignature = list[list[int] | None]


def find_run_folders(runs_dir: Path) -> list[Path]:
    """List all run folders, each once, whatever links to it.

    These are single runs, trials of multiruns, folds, and the merged pages of these.
    """
    return list(_iter_run_folders(runs_dir, set()))


def _iter_run_folders(folder: Path, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield a folder if it is a run's, and the run folders below it.

    Below a single run only its folds are searched, for its other folders may hold many files.
    """
    try:
        place = folder.stat()
        with os.scandir(folder) as entries:
            there = {entry.name: entry for entry in entries}
    except OSError:  # removed meanwhile, or not ours to read
        return
    if (place.st_dev, place.st_ino) in visited:
        return
    visited.add((place.st_dev, place.st_ino))
    if any(name in there for name in RUN_MARKERS):
        yield folder
    for name in sorted(
        name for name, entry in there.items() if not name.startswith(".") and _is_folder(entry)
    ):
        if CONFIG_FILE not in there or FOLD_PATTERN.fullmatch(name):
            yield from _iter_run_folders(folder / name, visited)


def _is_folder(entry: os.DirEntry) -> bool:
    """Return whether it is a folder or a link to one; False where it cannot be looked up."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def file_signature(folder: Path) -> FileSignature:
    """Return time and size of each file in `READ`; None for one that is not there."""
    return [_file_state(folder / name) for name in WATCHED_FILES]


def _file_state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]


BootstrapScores = dict[str, np.ndarray]  # score -> its bootstrap replicates


def summarize_report(report: dict[str, Any]) -> dict[str, Any]:
    """Collect a run's split, data, cost and settings from its report."""
    config = report.get("config") or {}
    data, parameters = report.get("data") or {}, report.get("parameters") or {}
    return {
        "evaluated_split": report.get("evaluated_split", "test"),
        "fold": config.get("fold"),
        "parts": [Path(fold["page"]).parent.as_posix() for fold in report.get("folds", [])],
        "heading": report.get("heading", report["title"]),
        "definitions": report.get("definitions", {}),
        "units": report.get("units", {}),
        "phantom": bool(data.get("phantom")),
        "trained": parameters.get("trainable"),
        "parameters": parameters.get("total"),
        "train_seconds": (report.get("resources") or {}).get("train_seconds"),
        "commit": report.get("commit"),
        "settings": flatten_config(config),
    }


def summarize_predictions(
    report: dict[str, Any], evidence: Evidence
) -> tuple[dict[str, Any], BootstrapScores]:
    """Collect the identity of the evaluated images and the scores on them.

    Args:
        report: Of the run, of which the scores on val are taken.
        evidence: Of the split that it leads with.

    Returns:
        The values, and the bootstrap replicates of the score that the run monitored.
    """
    evaluated_split, names, head = (
        report.get("evaluated_split", "test"),
        [score.name for score in evidence.metrics],
        evidence.headline_metrics[0],
    )
    monitor = get_monitor(report.get("config"), head)
    by = monitor[0].removeprefix("val/")
    val = {
        name: _score_or_nan(report, "val" if evaluated_split == "test" else evaluated_split, name)
        for name in names
    }
    found = {
        "kind": evidence.kind,
        "identity": evidence.identity,
        "grouped": _grouping_hash(evidence),
        "group_is": evidence.group_is,
        "evaluation_grid": evidence.evaluation_grid,
        "n": len(evidence),
        "scores": names,
        "head": head,
        "monitor": list(monitor),
        "val": {name: value for name, value in val.items() if isfinite(value)},
        "measured": _measured_scores(report, evidence, evaluated_split),
    }
    score, draws = score_with_interval(evidence, by if by in names else head)
    return found | {"test": score}, draws


def _measured_scores(report: dict[str, Any], evidence: Evidence, split: str) -> dict[str, Any]:
    """Return name -> value, interval and definition of the leading scores that were measured."""
    used = getattr(evidence, "used_measurements", ())
    wanted = {name for each in used for name in each.headline_scores}
    scores = overall_scores(report["scores"][split])
    return {
        metric.name: {
            **{key: scores[metric.name].get(key) for key in ("value", "low", "high")},
            "definition": metric.definition,
            "unit": metric.unit,
            "lower_is_better": metric.lower_is_better,
        }
        for metric in evidence.metrics
        if metric.name in wanted and metric.name in scores
    }


def score_with_interval(
    evidence: Evidence, name: str
) -> tuple[dict[str, dict[str, float]], BootstrapScores]:
    """Return a score with its interval and number of groups, and its bootstrap replicates."""
    draws = bootstrap_scores(evidence, [name])[0]
    score = next(score for score in evidence.metrics if score.name == name)
    groups = n_effective_groups(evidence, score)
    value = float(bootstrap_scores(evidence, [name], None)[0, 0])
    found = {"value": value, "groups": groups}
    low, high, _ = score_interval(score, value, draws, groups)
    if low is not None and high is not None:
        found |= {"low": low, "high": high}
    return {name: found}, {name: draws}


def _grouping_hash(evidence: Evidence) -> str:
    """Hash the grouping; it is the same for two runs that group the same images alike."""
    pairs = sorted(zip(evidence.ids.tolist(), evidence.groups.tolist(), strict=True))
    return sha256(repr(pairs).encode()).hexdigest()[:16]


def _score_or_nan(report: dict[str, Any], split: str, name: str) -> float:
    """Return a score; NaN where an older report does not have it."""
    try:
        return get_score(report, split, name)
    except (KeyError, TypeError, ValueError):
        return float("nan")


FINISHED, ONE_FOLD, SEVERAL_RUNS = (
    "finished",
    "one fold",
    "several runs",
)  # besides: failed, pruned, not tested, not ended, cannot be read
RANKED_TASKS = {"fit", "test"}  # what a run does that is ranked


@dataclass(kw_only=True)
class LeaderboardEntry:
    """One run.

    Attributes:
        run: Its folder below the folder of all runs, with slashes.
        status: `finished` where it can be ranked.
        reason: Why not, in words.
        title: Of its page.
        timestamp: It was finished, or last written to.
        summary: What its report and evidence say, where they were read.
    """

    run: str
    status: str = FINISHED
    reason: str = ""
    title: str = ""
    timestamp: str = ""
    summary: dict[str, Any] = field(default_factory=dict)


def read_entry(folder: Path, runs_dir: Path) -> tuple[LeaderboardEntry | None, BootstrapScores]:
    """Read a run folder; one that cannot be read becomes an entry that says so.

    One bad file must not hide all other runs.

    Args:
        folder: Of the run.
        runs_dir: Of all runs.

    Returns:
        The entry, None where the folder is no run to be ranked, such as a data set's export; and
        the bootstrap replicates of the score that the run monitored.
    """
    entry = LeaderboardEntry(
        run=folder.relative_to(runs_dir).as_posix(), timestamp=_last_modified(folder)
    )
    try:
        return _load_entry(folder, entry)
    except Exception as error:
        said = (
            " ".join(str(error).split())
            if isinstance(error, UserError)
            else f"{type(error).__name__}: {plain_sentence(error)}"
        )
        entry.status, entry.reason = "cannot be read", said
        return entry, {}


def _load_entry(
    folder: Path, entry: LeaderboardEntry
) -> tuple[LeaderboardEntry | None, BootstrapScores]:
    run = RunFolder(folder)
    if _is_multirun_page(folder):
        entry.status, entry.title = SEVERAL_RUNS, run.title
        return entry, {}
    outcome = run.outcome
    if run.has_report and (outcome is None or outcome.status == FINISHED):
        entry.title, entry.timestamp, entry.summary = (
            run.title,
            run.report.get("finished", entry.timestamp),
            summarize_report(run.report),
        )
        if run.evaluated_split == "test" and entry.summary["fold"] is not None:
            entry.status = ONE_FOLD
            return entry, {}
        if not len(run.evidence):
            raise UserError(
                f"{folder / 'evidence'} holds no image; test the run again with do=[test]"
                f" ckpt_path={folder}"
            )
        more, draws = summarize_predictions(run.report, run.evidence)
        entry.summary |= more
        return entry, draws
    tasks, trainer = run.config.get("do", RANKED_TASKS), run.config.get("trainer") or {}
    if not RANKED_TASKS & set(tasks) or trainer.get("fast_dev_run"):
        return None, {}
    entry.title = str(run.config.get("title", ""))
    entry.status, entry.reason = _unranked_reason(folder, outcome)
    return entry, {}


def _last_modified(folder: Path) -> str:
    """Return the newest modification time of the files in `READ`, in the time of this machine."""
    last = max(
        (path.stat().st_mtime for name in WATCHED_FILES if (path := folder / name).is_file()),
        default=0.0,
    )
    return datetime.fromtimestamp(last).astimezone().isoformat(timespec="seconds")


def _unranked_reason(folder: Path, outcome: Outcome | None) -> tuple[str, str]:
    status = None if outcome is None else outcome.status
    if outcome is not None and status == "pruned":
        score = "" if outcome.score is None else f", at {outcome.score:.4f}"
        return "pruned", f"stopped early by the sweep{score}"
    if outcome is not None and status == "failed":
        return "failed", " ".join((outcome.failure or "no reason was left").split())
    if status == FINISHED:
        return "not tested", "it was trained and not tested; do=[test] ckpt_path=ITS_FOLDER"
    said = "it was stopped" if status == "interrupted" else "it is running, or was cut off"
    last = (folder / "checkpoints" / "last.ckpt").is_file()
    return "not ended", said + (
        "; ckpt_path=ITS_FOLDER continues it" if last else " before anything was saved"
    )


def _is_multirun_page(folder: Path) -> bool:
    """Return whether the folder is a page over several runs, which keeps no evidence of its own."""
    run = RunFolder(folder)
    return not (folder / CONFIG_FILE).is_file() and not any(map(run.has_evidence, EVALUATED_SPLITS))


CACHE_VERSION = 4  # to be raised when the values kept of a run change


@dataclass
class CachedRun:
    """One folder.

    Attributes:
        signature: Of its files when they were read.
        entry: None where it is no run to be ranked.
        bootstrap_scores: Score -> its bootstrap replicates.
    """

    signature: FileSignature
    entry: LeaderboardEntry | None
    bootstrap_scores: BootstrapScores = field(default_factory=dict)


class RunIndex:
    """All runs below a folder.

    Args:
        runs_dir: The folder.
        cache_path: The file of the cache.
    """

    def __init__(self, runs_dir: Path, cache_path: Path) -> None:
        self.runs_dir, self.cache_path = runs_dir, cache_path
        before = _load_cache(cache_path)
        self._runs: dict[str, CachedRun] = {}
        self._changed = False
        for folder in find_run_folders(runs_dir):
            run, now = folder.relative_to(runs_dir).as_posix(), file_signature(folder)
            known = before.pop(run, None)
            if known is None or known.signature != now:
                known, self._changed = CachedRun(now, *read_entry(folder, runs_dir)), True
            self._runs[run] = known
        self._changed |= bool(before)  # some are gone

    @property
    def entries(self) -> list[LeaderboardEntry]:
        """The entries of all runs that have one."""
        return [known.entry for known in self._runs.values() if known.entry is not None]

    def bootstrap_scores(self, entry: LeaderboardEntry, score: str) -> np.ndarray:
        """Return a score's bootstrap replicates, from evidence if the run did not monitor it."""
        known = self._runs[entry.run]
        if score not in known.bootstrap_scores:
            evidence = RunFolder(self.runs_dir / entry.run).read_evidence(
                entry.summary["evaluated_split"]
            )
            found, draws = score_with_interval(evidence, score)
            entry.summary["test"] |= found
            known.bootstrap_scores |= draws
            self._changed = True
        return known.bootstrap_scores[score]

    def save(self) -> None:
        """Write the cache if anything has changed."""
        if not self._changed:
            return
        draws = [
            values for known in self._runs.values() for values in known.bootstrap_scores.values()
        ]
        words = [
            [run, known.signature, known.entry and vars(known.entry), list(known.bootstrap_scores)]
            for run, known in self._runs.items()
        ]
        said = json.dumps({"version": CACHE_VERSION, "runs": words}).encode()
        file = io.BytesIO()
        np.savez(
            file,
            words=np.frombuffer(said, np.uint8),
            drawn=np.array(draws).reshape(len(draws), N_RESAMPLES),
        )
        atomic_write(self.cache_path, file.getvalue())


def _load_cache(path: Path) -> dict[str, CachedRun]:
    """Load the cache; empty if missing, damaged or of another version, so that all is read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            said, drawn = json.loads(file["words"].tobytes()), file["drawn"]
        if said["version"] != CACHE_VERSION or drawn.shape[1] != N_RESAMPLES:
            return {}
        return _restore_cached_runs(said["runs"], drawn)
    except Exception:  # whatever is wrong with it, it can be made again
        return {}


def _restore_cached_runs(runs: list[Any], score_rows: np.ndarray) -> dict[str, CachedRun]:
    rows = iter(score_rows)
    return {
        run: CachedRun(
            stamp, entry and LeaderboardEntry(**entry), {name: next(rows) for name in names}
        )
        for run, stamp, entry, names in runs
    }
