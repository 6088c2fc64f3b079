"""Table of finished runs on one test set: val, threshold, test with intervals; ranked by val."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from callbacks.comparison.finished import Finished, whole
from callbacks.comparison.ranking import Ranking, ranking

OF_LABELS = ("auc", "recall", "specificity")


def ranking_of(runs: Sequence[Finished]) -> Ranking:
    """Return the score that ranks, with its direction.

    It is the score that all runs monitored on val, where evidence has it; else the first of their
    pages.
    """
    evidence = runs[0].evidence
    return ranking(
        [run.monitor for run in runs], {score.name for score in evidence.scores}, evidence.heads[0]
    )


def val_score(run: Finished, by: str) -> float:
    """Return the score that ranks a run.

    Of merged folds it is the score out of fold, which is val of the fit that did not see the image.
    """
    return run.score("val" if run.judged == "test" else run.judged, by)


def leaderboard(runs: Sequence[Finished]) -> pd.DataFrame:
    """Tabulate the runs, one a line, the best on val first.

    Columns: `run`, `title`, `val SCORE`; of labels also `val` of `OF_LABELS` and `threshold`; and
    of each head on test `SCORE`, `SCORE low`, `SCORE high`.
    """
    by = ranking_of(runs)
    lines = sorted(
        (_line(run, by.score) for run in runs), key=lambda line: by.place(line[f"val {by.score}"])
    )
    return pd.DataFrame(lines)


def _line(run: Finished, by: str) -> dict[str, Any]:
    told = run.report
    labels = run.evidence.kind == "label"
    line: dict[str, Any] = {"run": str(run.folder), "title": told["title"]}
    for name in dict.fromkeys((by, *(OF_LABELS if labels else ()))):
        line[f"val {name}"] = val_score(run, name)
    if labels:
        rules = list(told.get("rule", {}).values())
        line["threshold"] = rules[0].get("threshold") if len(rules) == 1 else None
    scores = whole(told["scores"][run.judged])
    for name in run.evidence.heads:
        line |= {
            name: scores[name]["value"],
            f"{name} low": scores[name]["low"],
            f"{name} high": scores[name]["high"],
        }
    return line
