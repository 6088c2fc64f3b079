"""The trials of a multirun as their folders tell of them: how each ended, with which score, and what it did differently."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from callbacks.runs import outcome

OF_THE_SWEEP = ("resume", "callbacks.pruning", "hydra.")  # words that the sweep adds
State = Literal["finished", "pruned", "failed", "stopped"]
HEADS = 3  # scores on test
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes:
        folder: Its own.
        state: `stopped` where nothing says how it ended.
        command: All words that were its own.
        words: Key -> value of what differs between the trials.
        monitor: Name of the score that ranks, such as `val/dice`.
        mode: `max` or `min`.
        score: The monitored one; None where there is none.
        test: Score -> its value on test.
        trained: Number of parameters that were trained.
        seconds: From its start to its end; of a trial that was cut off, since it was taken up again.
        failure: Why it failed.
    """

    folder: Path
    state: State
    command: list[str]
    words: dict[str, str]
    monitor: str
    mode: str
    score: float | None
    test: dict[str, float]
    trained: int | None
    seconds: float | None
    failure: str | None

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def has_page(self) -> bool:
        """Whether it was tested."""
        return (self.folder / "report.html").is_file()


def trials_of(sweep: Path) -> list[Tried]:
    """All trials of a multirun's folder by their number, those that failed or were cut off too."""
    differ, said = swept(sweep), _overrides(sweep)
    return [_tried(sweep / name, said[name], differ[name]) for name in said]


def ranked(trials: Iterable[Tried]) -> list[Tried]:
    """The best first; behind those that finished the pruned, the failed and the stopped."""
    order = ("finished", "pruned", "failed", "stopped")
    return sorted(trials, key=lambda t: (order.index(t.state), t.score is None, _worse(t)))


def _worse(trial: Tried) -> float:
    return 0.0 if trial.score is None else trial.score if trial.mode == "min" else -trial.score


def best(trials: Iterable[Tried]) -> Tried | None:
    """Of those that finished with a score."""
    return next((trial for trial in ranked(trials) if trial.state == "finished" and trial.score is not None), None)


def _tried(folder: Path, said: list[str], differs: dict[str, str]) -> Tried:
    known, report = outcome.read(folder), _json(folder / "report.json")
    monitor, mode = _monitor(folder, report)
    ended = known or ({"status": "finished", "score": None, "failure": None} if report else {"status": "stopped", "score": None, "failure": None})
    score = ended["score"]
    if score is None and ended["status"] == "finished":  # tested alone
        score = _score(report, "val", monitor.removeprefix("val/"))
    test = {name: _score(report, "test", name) for name in report.get("heads", [])[:HEADS]}
    return Tried(
        folder=folder,
        state=ended["status"],
        command=[word for word in said if not word.lstrip("+~").startswith(OF_THE_SWEEP)],
        words=differs,
        monitor=monitor,
        mode=mode,
        score=score,
        test={name: value for name, value in test.items() if value is not None},
        trained=(report.get("parameters") or {}).get("trainable"),
        seconds=ended.get("seconds"),
        failure=ended["failure"],
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _monitor(folder: Path, report: dict[str, Any]) -> tuple[str, str]:
    """Name and mode of the score that ranks; of a run that failed too early the first of its page, or a dash."""
    try:
        found = (yaml.load((folder / "config.yaml").read_text(encoding="utf-8"), Loader) or {}).get("monitor") or {}
    except (OSError, yaml.YAMLError):
        found = {}
    first = next(iter(report.get("heads", [])), None)
    return found.get("name") or (f"val/{first}" if first else "–"), found.get("mode") or "max"


def _score(report: dict[str, Any], split: str, name: str) -> float | None:
    from callbacks.comparison.finished import score_of

    try:
        value = score_of(report, split, name)
    except (KeyError, TypeError):
        return None
    return value if value == value else None


def _overrides(sweep: Path) -> dict[str, list[str]]:
    paths = sorted(sweep.glob("*/.hydra/overrides.yaml"), key=lambda path: (not path.parents[1].name.isdecimal(), path.parents[1].name.zfill(9)))
    return {path.parents[1].name: yaml.load(path.read_text(encoding="utf-8"), Loader) or [] for path in paths}


def swept(sweep: Path) -> dict[str, dict[str, str]]:
    """Trial -> key -> value of what differs between the trials of a multirun, those that failed too; nothing of a single trial."""
    words = {name: dict(word.lstrip("+").split("=", 1) for word in said if "=" in word) for name, said in _overrides(sweep).items()}
    keys = [key for key in dict.fromkeys(key for of_trial in words.values() for key in of_trial) if not key.startswith(OF_THE_SWEEP)]
    differ = [key for key in keys if len({of_trial.get(key) for of_trial in words.values()}) > 1]
    return {name: {key: of_trial.get(key, "") for key in differ} for name, of_trial in words.items()}


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Key -> as many of its last parts as tell it from the others: `lr`, `loss.alpha`."""
    names = {}
    for key in (found := list(keys)):
        parts = key.split(".")
        ends = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        names[key] = next((end for end in ends if sum(other == end or other.endswith(f".{end}") for other in found) == 1), key)
    return names


def number_of(value: str) -> float | None:
    """A value as a number, where it is one."""
    try:
        return float(value)
    except ValueError:
        return None


def shortened(value: str) -> str:
    """A value for people: numbers of many digits are rounded to four."""
    found = number_of(value)
    return value if found is None or len(value) <= 7 else f"{found:.4g}"
