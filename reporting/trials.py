"""The trials of a multirun: varied values, states and scores."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from reporting.config_diff import SWEEP_OVERRIDE_PREFIXES
from reporting.outcome import Outcome, Status
from reporting.run_folder import OVERRIDES_FILE, RunFolder, get_score

MAX_TEST_SCORES = 3
UNKNOWN_MONITOR = "–"
STATE_ORDER: tuple[Status, ...] = ("finished", "pruned", "failed", "interrupted", "running")


@dataclass(frozen=True)
class TrialResult:
    """Result of one trial.

    Attributes:
        folder: Folder of the trial.
        state: State at its end, or `interrupted` if it recorded none. A trial that is still
            `running` after the end of the sweep was killed.
        overrides: Its own overrides.
        varied_values: Key -> value, for the keys that differ between the trials.
        monitor: Name of the score that ranks, such as `val/dice`.
        mode: `max` or `min`.
        score: Monitored score; None without one.
        test: Score -> its value on test.
        trainable_parameters: Number of trained parameters.
        seconds: Seconds from its start, or from its last resumption, to its end.
        failure: Reason why it failed.
        phantom: True if its images are phantoms.
        heading: Task and data, as its page has them; None without a page.
    """

    folder: Path
    state: Status
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
    heading: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.name

    @property
    def has_page(self) -> bool:
        """True if it was tested, and so has a page."""
        return (self.folder / "report.html").is_file()


def load_trials(sweep_dir: Path) -> list[TrialResult]:
    """Load all trials of a multirun by number, including those that failed or were killed."""
    varied, overrides = varied_overrides(sweep_dir), load_trial_overrides(sweep_dir)
    found = [_load_trial(sweep_dir / name, overrides[name], varied[name]) for name in overrides]
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
    """Sort trials, the best first; those that did not finish follow by their state."""
    return sorted(
        trials,
        key=lambda t: (STATE_ORDER.index(t.state), t.score is None, trial_sort_key(t)),
    )


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
    run = RunFolder(folder)
    outcome = _read_or_none(run, "outcome")
    report = (_read_or_none(run, "report") if run.has_report else None) or {}
    config = _read_or_none(run, "config") or {}
    monitor, mode = _find_monitor(config, report)
    outcome = outcome or Outcome(status="finished" if report else "interrupted")
    score = outcome.score
    if score is None and outcome.status == "finished":  # tested alone
        score = _score_or_none(report, "val", monitor.removeprefix("val/"))
    test = {
        name: _score_or_none(report, "test", name)
        for name in report.get("headline_metrics", [])[:MAX_TEST_SCORES]
    }
    return TrialResult(
        folder=folder,
        state=outcome.status,
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
        seconds=outcome.seconds,
        failure=outcome.failure,
        phantom=bool((report.get("data") or {}).get("phantom")),
        heading=report.get("heading"),
    )


def _find_monitor(config: dict[str, Any], report: dict[str, Any]) -> tuple[str, str]:
    """Return name and mode of the score that ranks.

    For a run that failed too early it is the first score of its page, or a dash.
    """
    found = config.get("monitor") or {}
    first = next(iter(report.get("headline_metrics", [])), None)
    name = found.get("name") or (f"val/{first}" if first else UNKNOWN_MONITOR)
    return name, found.get("mode") or "max"


def _score_or_none(report: dict[str, Any], split: str, name: str) -> float | None:
    try:
        value = get_score(report, split, name)
    except (KeyError, TypeError):
        return None
    return value if value == value else None


def load_trial_overrides(sweep_dir: Path) -> dict[str, list[str]]:
    """Load trial -> all its overrides, by number; a damaged file is named on stderr."""
    paths = sorted(
        (path.parents[1] for path in sweep_dir.glob(f"*/{OVERRIDES_FILE}")),
        key=lambda path: (not path.name.isdecimal(), path.name.zfill(9)),
    )
    runs = [RunFolder(path) for path in paths]
    return {run.path.name: _read_or_none(run, "overrides") or [] for run in runs}


def _read_or_none(run: RunFolder, name: str) -> Any:
    """Return an attribute of a run; a damaged file is named on stderr, and hides nothing else."""
    try:
        return getattr(run, name)
    except UserError as refusal:
        print(refusal, file=sys.stderr)
        return None


def varied_overrides(sweep_dir: Path) -> dict[str, dict[str, str]]:
    """Return trial -> key -> value of the overrides that differ between a multirun's trials.

    Trials that failed are included; a single trial has no differences.
    """
    overrides = {
        name: dict(word.lstrip("+").split("=", 1) for word in own if "=" in word)
        for name, own in load_trial_overrides(sweep_dir).items()
    }
    keys = [
        key
        for key in dict.fromkeys(key for own in overrides.values() for key in own)
        if not key.startswith(SWEEP_OVERRIDE_PREFIXES)
    ]
    differ = [key for key in keys if len({own.get(key) for own in overrides.values()}) > 1]
    return {name: {key: own.get(key, "") for key in differ} for name, own in overrides.items()}
