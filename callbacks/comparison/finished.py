"""A finished run as a comparison reads it: its report and its test evidence."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.refusal import Refusal
from lightning_modules import evidence_file
from lightning_modules.evidence import Evidence
from lightning_modules.uncertainty import MEAN


@dataclass(frozen=True)
class Finished:
    """One run.

    Attributes:
        folder: Where it is.
        report: Its report.json.
        evidence: Of test.
    """

    folder: Path
    report: dict[str, Any]
    evidence: Evidence

    @property
    def arm(self) -> str:
        """Runs of one title are repetitions of one thing, with other seeds."""
        return str(self.report["title"])

    def score(self, split: str, name: str) -> float:
        """A score of a split; of several classes their mean."""
        return score_of(self.report, split, name)


def score_of(report: dict[str, Any], split: str, name: str) -> float:
    """A score in a report.json; of several classes their mean, NaN where it is undefined or was not taken."""
    classes = report["scores"].get(split, {})
    if not classes:
        return float("nan")
    value = classes.get(MEAN, next(iter(classes.values())))[name]["value"]
    return float("nan") if value is None else float(value)


def read(folder: Path) -> Finished:
    """Reads a run folder.

    Raises:
        Refusal: it holds no report or no test evidence.
    """
    path = folder / "report.json"
    if not path.is_file():
        raise Refusal(f"{folder} holds no report.json, so it is no finished run; name a run folder, or test it with do=[test] ckpt_path={folder}")
    return Finished(folder, json.loads(path.read_text(encoding="utf-8")), evidence_file.read(folder / "evidence" / "test.npz"))
