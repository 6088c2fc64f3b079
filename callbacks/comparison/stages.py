"""The stages of an arm: what each asked, and the best score its runs reached there."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from callbacks.comparison.finished import FinishedRun
from callbacks.report.stages import read_stages


def summarize_stages(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Summarize each stage over the runs that entered it; empty where there was no curriculum."""
    each = [read_stages(run.folder) for run in runs]
    return [
        _summarize_stage([run[n] for run in each if len(run) > n])
        for n in range(max(map(len, each)))
    ]


def _summarize_stage(run_stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    best = [stage["best"]["score"] for stage in run_stages if stage["best"]["score"] is not None]
    return {
        "stage": run_stages[0]["stage"],
        "asked": run_stages[0]["asked"],
        "runs": len(run_stages),
        "best": _mean_or_none(best),
        "sd": stdev(best) if len(best) > 1 else None,
        "best_epoch": _mean_or_none(
            [
                stage["best"]["epoch"] + 1
                for stage in run_stages
                if stage["best"]["epoch"] is not None
            ]
        ),
        "epochs": _mean_or_none(
            [stage["last_epoch"] - stage["first_epoch"] + 1 for stage in run_stages]
        ),
        "positive": _mean_or_none(
            [
                stage["drawn"]["positive_fraction"]
                for stage in run_stages
                if "positive_fraction" in stage["drawn"]
            ]
        ),
        "images": _mean_or_none(
            [stage["drawn"]["images"] for stage in run_stages if "images" in stage["drawn"]]
        ),
    }


def _mean_or_none(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def common_stage_score(runs: Sequence[FinishedRun]) -> str:
    """The score that the best epochs of stages were chosen by, where all runs share it."""
    names = {name for name, _ in (run.monitor for run in runs)}
    return names.pop() if len(names) == 1 else "monitored score (it differs between the arms)"


def best_per_stage(
    variant_stages: Sequence[list[dict[str, Any]]], runs: Sequence[FinishedRun]
) -> list[float | None]:
    """Stage -> the best score of an arm; None where nothing or no single score was monitored."""
    monitors = {run.monitor for run in runs}
    better = min if monitors == {(next(iter(monitors))[0], "min")} else max
    found: list[float | None] = []
    for n in range(max(map(len, variant_stages))):
        scores = [
            arm[n]["best"] for arm in variant_stages if len(arm) > n and arm[n]["best"] is not None
        ]
        found.append(better(scores) if scores and len(monitors) == 1 else None)
    return found
