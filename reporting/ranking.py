"""Decide which score ranks runs, and label significant differences."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import isnan
from typing import Any

from evaluation.bootstrap import PairedDifference


@dataclass(frozen=True)
class Ranking:
    """Order of runs on one test set by a score on val.

    Attributes:
        score: Name of the score in evidence.
        lower_is_better: True if a lower score is better.
        monitored: Monitored scores of the runs, if the runs are ranked by another score; else
            empty.
    """

    score: str
    lower_is_better: bool = False
    monitored: tuple[str, ...] = ()

    def sort_key(self, value: float) -> tuple[bool, float]:
        """Return a sort key that puts the best first, and NaN last."""
        return isnan(value), value if self.lower_is_better else -value


def choose_ranking(
    monitors: Iterable[tuple[str, str]], available_scores: Collection[str], default_score: str
) -> Ranking:
    """Rank by the score that all runs monitored if evidence has it, else by the default score.

    Args:
        monitors: Name such as `val/dice`, and mode, of each run.
        available_scores: Names of the scores in evidence.
        default_score: First score of the pages; a higher score is better.
    """
    found = sorted(set(monitors))
    name, mode = found[0]
    score = name.removeprefix("val/")
    if len(found) == 1 and score in available_scores:
        return Ranking(score, mode == "min")
    return Ranking(
        default_score,
        monitored=tuple(
            name if len({m for n, m in found if n == name}) == 1 else f"{name} ({mode})"
            for name, mode in found
        ),
    )


def get_monitor(config: dict[str, Any] | None, default_score: str) -> tuple[str, str]:
    """Return the name and mode (`max` or `min`) of the score that a run monitored."""
    monitor = (config or {}).get("monitor") or {}
    return str(monitor.get("name", f"val/{default_score}")), str(monitor.get("mode", "max"))


BEST_ON_VAL, BETTER, WORSE, NOT_DISTINGUISHABLE, TOO_FEW_GROUPS = (
    "best on val",
    "better",
    "worse",
    "not distinguishable",
    "too few groups",
)
UNDEFINED_ON_TEST = "not defined on test"


def significance_label(difference: PairedDifference, lower_is_better: bool = False) -> str:
    """Return `better` or `worse` if the 95 % interval of the difference does not contain 0.

    Args:
        difference: Paired difference of a score on test, a run minus its reference.
        lower_is_better: True if a lower score is better.
    """
    if isnan(difference.value):
        return UNDEFINED_ON_TEST
    if difference.low is None or difference.high is None:
        return TOO_FEW_GROUPS
    if difference.low <= 0 <= difference.high:
        return NOT_DISTINGUISHABLE
    return BETTER if (difference.low > 0) != lower_is_better else WORSE
