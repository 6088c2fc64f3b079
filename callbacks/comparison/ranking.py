"""Which score ranks runs, and whether more or less of it is better."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import isnan
from typing import Any


@dataclass(frozen=True)
class Ranking:
    """How runs on one test set are put in order: by a score on val.

    Attributes:
        score: Its name in evidence.
        lower: Whether less of it is better.
        monitored: What the runs monitored, where that is not what ranks them all; empty where it
            is.
    """

    score: str
    lower: bool = False
    monitored: tuple[str, ...] = ()

    def place(self, value: float) -> tuple[bool, float]:
        """A key that sorts the best first, and last what has no value."""
        return isnan(value), value if self.lower else -value


def ranking(monitors: Iterable[tuple[str, str]], known: Collection[str], head: str) -> Ranking:
    """By what all runs monitored on val, where evidence has it; else by the first score of their pages.

    Args:
        monitors: Name such as `val/dice`, and mode, of each run.
        known: The scores that evidence has.
        head: The first score of their pages; more of it is better.
    """
    found = sorted(set(monitors))
    name, mode = found[0]
    score = name.removeprefix("val/")
    if len(found) == 1 and score in known:
        return Ranking(score, mode == "min")
    return Ranking(
        head,
        monitored=tuple(
            name if len({m for n, m in found if n == name}) == 1 else f"{name} ({mode})"
            for name, mode in found
        ),
    )


def monitor_of(config: dict[str, Any] | None, head: str) -> tuple[str, str]:
    """What a run monitored, and whether its `max` or `min` was sought."""
    monitor = (config or {}).get("monitor") or {}
    return str(monitor.get("name", f"val/{head}")), str(monitor.get("mode", "max"))
