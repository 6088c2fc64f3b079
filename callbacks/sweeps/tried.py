"""The trials of a multirun as their folders tell of them: how each ended, with which score, and what it did differently."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from callbacks.runs import outcome
from callbacks.runs.written import read_yaml
from callbacks.sweeps.words import SWEEP_OVERRIDE_PREFIXES, load_trial_overrides, varied_overrides

TrialStatus = Literal["finished", "pruned", "failed", "stopped"]
MAX_TEST_SCORES = 3  # scores on test
UNKNOWN_MONITOR = "–"


@dataclass(frozen=True)
class TrialResult:
    """One trial.

    Attributes:
        folder: Its own.
        state: `stopped` where nothing says how it ended.
        overrides: All words that were its own.
        varied_values: Key -> value of what differs between the trials.
        monitor: Name of the score that ranks, such as `val/dice`.
        mode: `max` or `min`.
        score: The monitored one; None where there is none.
        test: Score -> its value on test.
        trainable_parameters: Number of parameters that were trained.
        seconds: From its start to its end; of a trial that was cut off, since it was taken up
            again.
        failure: Why it failed.
        phantom: Whether its images were drawn.
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
        """Of its folder."""
        return self.folder.name

    @property
    def has_page(self) -> bool:
        """Whether it was tested."""
        return (self.folder / "report.html").is_file()


def load_trials(sweep_dir: Path) -> list[TrialResult]:
    """All trials of a multirun's folder by their number, those that failed or were cut off too."""
    differ, said = varied_overrides(sweep_dir), load_trial_overrides(sweep_dir)
    found = [_load_trial(sweep_dir / name, said[name], differ[name]) for name in said]
    known = next(
        (trial for trial in found if trial.monitor != UNKNOWN_MONITOR), None
    )  # one that failed at once says nothing of it
    return [
        (
            replace(trial, monitor=known.monitor, mode=known.mode)
            if known and trial.monitor == UNKNOWN_MONITOR
            else trial
        )
        for trial in found
    ]


def rank_trials(trials: Iterable[TrialResult]) -> list[TrialResult]:
    """The best first; behind those that finished the pruned, the failed and the stopped."""
    order = ("finished", "pruned", "failed", "stopped")
    return sorted(trials, key=lambda t: (order.index(t.state), t.score is None, trial_sort_key(t)))


def trial_sort_key(trial: TrialResult) -> float:
    """The larger, the worse its score."""
    return 0.0 if trial.score is None else trial.score if trial.mode == "min" else -trial.score


def select_best_trial(trials: Iterable[TrialResult]) -> TrialResult | None:
    """Of those that finished with a score."""
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
    known, report = outcome.read_outcome(folder), _read_json_or_empty(folder / "report.json")
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
    """Name and mode of the score that ranks; of a run that failed too early the first of its page, or a dash."""
    try:
        found = (read_yaml(folder / "config.yaml") or {}).get("monitor") or {}
    except (OSError, yaml.YAMLError):
        found = {}
    first = next(iter(report.get("heads", [])), None)
    return found.get("name") or (f"val/{first}" if first else UNKNOWN_MONITOR), found.get(
        "mode"
    ) or "max"


def _score_or_none(report: dict[str, Any], split: str, name: str) -> float | None:
    from callbacks.comparison.finished import get_score

    try:
        value = get_score(report, split, name)
    except (KeyError, TypeError):
        return None
    return value if value == value else None
