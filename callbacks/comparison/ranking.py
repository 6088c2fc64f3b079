"""The score that ranks runs, and its direction."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import isnan
from typing import Any


@dataclass(frozen=True)
class Ranking:
    """Order of runs on one test set by a score on val.

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
        """Return a sort key that puts the best first, and NaN last."""
        return isnan(value), value if self.lower else -value


def ranking(monitors: Iterable[tuple[str, str]], known: Collection[str], head: str) -> Ranking:
    """Rank by what all runs monitored on val if evidence has it, else by their pages' first score.

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
    """Return the name and mode (`max` or `min`) of the score that a run monitored."""
    monitor = (config or {}).get("monitor") or {}
    return str(monitor.get("name", f"val/{head}")), str(monitor.get("mode", "max"))
