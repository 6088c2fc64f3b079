"""Finished runs on one test set in a table: what was reached on val, the threshold in force, test with intervals; ranked by val."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import pandas as pd

from callbacks.comparison.finished import Finished, score_of

OF_LABELS = ("auc", "recall", "specificity")


def ranked_by(runs: Sequence[Finished]) -> str:
    """The score that ranks: the one that all runs monitored on val, where evidence has it; else the first of their pages."""
    monitored = {str((run.report.get("config") or {}).get("monitor", {}).get("name")) for run in runs}
    names = {score.name for score in runs[0].evidence.scores}
    shared = next(iter(monitored)).removeprefix("val/") if len(monitored) == 1 else ""
    return shared if shared in names else runs[0].evidence.heads[0]


def leaderboard(runs: Sequence[Finished]) -> pd.DataFrame:
    """One line a run, the best on val first: `val SCORE`, of labels `threshold`, and of each head on test `SCORE`, `SCORE low`, `SCORE high`."""
    by = ranked_by(runs)
    lines = sorted((_line(run, by) for run in runs), key=lambda line: (isnan(line[f"val {by}"]), -line[f"val {by}"]))
    return pd.DataFrame(lines)


def _line(run: Finished, by: str) -> dict[str, Any]:
    told = run.report
    labels = run.evidence.kind == "label"
    line: dict[str, Any] = {"run": str(run.folder), "title": told["title"]}
    for name in dict.fromkeys((by, *(OF_LABELS if labels else ()))):
        line[f"val {name}"] = score_of(told, "val", name)
    if labels:
        rules = list(told.get("rule", {}).values())
        line["threshold"] = rules[0].get("threshold") if len(rules) == 1 else None
    scores = list(told["scores"]["test"].values())[-1]  # of several classes their mean stands last
    for name in run.evidence.heads:
        line |= {name: scores[name]["value"], f"{name} low": scores[name]["low"], f"{name} high": scores[name]["high"]}
    return line
