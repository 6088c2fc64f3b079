"""The stages of an arm: what each asked, and the best score its runs reached there."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from callbacks.comparison.finished import Finished
from callbacks.report.stages import read_stages


def stages(arm: Sequence[Finished]) -> list[dict[str, Any]]:
    """Summarize each stage over the runs that entered it; empty where there was no curriculum."""
    each = [read_stages(run.folder) for run in arm]
    return [
        _over_runs([run[n] for run in each if len(run) > n]) for n in range(max(map(len, each)))
    ]


def _over_runs(same: Sequence[dict[str, Any]]) -> dict[str, Any]:
    best = [stage["best"]["score"] for stage in same if stage["best"]["score"] is not None]
    return {
        "stage": same[0]["stage"],
        "asked": same[0]["asked"],
        "runs": len(same),
        "best": _mean(best),
        "sd": stdev(best) if len(best) > 1 else None,
        "best_epoch": _mean(
            [stage["best"]["epoch"] + 1 for stage in same if stage["best"]["epoch"] is not None]
        ),
        "epochs": _mean([stage["last_epoch"] - stage["first_epoch"] + 1 for stage in same]),
        "positive": _mean(
            [
                stage["drawn"]["positive_fraction"]
                for stage in same
                if "positive_fraction" in stage["drawn"]
            ]
        ),
        "images": _mean([stage["drawn"]["images"] for stage in same if "images" in stage["drawn"]]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def stage_score(runs: Sequence[Finished]) -> str:
    """The score that the best epochs of stages were chosen by, where all runs share it."""
    names = {name for name, _ in (run.monitor for run in runs)}
    return names.pop() if len(names) == 1 else "monitored score (it differs between the arms)"


def leaders(arms: Sequence[list[dict[str, Any]]], runs: Sequence[Finished]) -> list[float | None]:
    """Stage -> the best score of an arm; None where nothing or no single score was monitored."""
    monitors = {run.monitor for run in runs}
    better = min if monitors == {(next(iter(monitors))[0], "min")} else max
    found: list[float | None] = []
    for n in range(max(map(len, arms))):
        scores = [arm[n]["best"] for arm in arms if len(arm) > n and arm[n]["best"] is not None]
        found.append(better(scores) if scores and len(monitors) == 1 else None)
    return found
