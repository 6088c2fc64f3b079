"""A finished run as a comparison reads it: its report and its test evidence."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from callbacks.comparison.differing import SEED_KEYS, config_diff, flatten_config
from callbacks.comparison.ranking import get_monitor
from callbacks.report.schema import SCHEMA
from datamodules.refusal import UserError
from lightning_modules import evidence_file
from lightning_modules.evidence import Evidence
from lightning_modules.uncertainty import MEAN

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
    return class_scores.get(MEAN, next(iter(class_scores.values())))


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
        Refusal: it holds no report or no test evidence, or they cannot be read.
    """
    report = read_report(folder)
    return FinishedRun(
        folder,
        report,
        evidence_file.read_evidence(folder / "evidence" / f"{report.get('judged', 'test')}.npz"),
    )


def read_report(folder: Path) -> dict[str, Any]:
    """Read report.json of a run folder.

    Raises:
        Refusal: missing, damaged, or no report.
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
