"""Table of finished runs on one test set: val, threshold, test with intervals; ranked by val."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from callbacks.comparison.finished import FinishedRun, overall_scores
from callbacks.comparison.ranking import Ranking, choose_ranking

CLASSIFICATION_SCORES = ("auc", "recall", "specificity")


def choose_common_ranking(runs: Sequence[FinishedRun]) -> Ranking:
    """Return the score that ranks, with its direction.

    It is the score that all runs monitored on val, where evidence has it; else the first of their
    pages.
    """
    evidence = runs[0].evidence
    return choose_ranking(
        [run.monitor for run in runs],
        {score.name for score in evidence.scores},
        evidence.headline_metrics[0],
    )


def val_score(run: FinishedRun, score: str) -> float:
    """Return the score that ranks a run.

    Of merged folds it is the score out of fold, which is val of the fit that did not see the image.
    """
    return run.score("val" if run.evaluated_split == "test" else run.evaluated_split, score)


def comparison_table(runs: Sequence[FinishedRun]) -> pd.DataFrame:
    """Tabulate the runs, one a line, the best on val first.

    Columns: `run`, `title`, `val SCORE`; of labels also `val` of `CLASSIFICATION_SCORES` and `threshold`; and
    of each head on test `SCORE`, `SCORE low`, `SCORE high`.
    """
    by = choose_common_ranking(runs)
    lines = sorted(
        (_table_row(run, by.score) for run in runs),
        key=lambda line: by.sort_key(line[f"val {by.score}"]),
    )
    return pd.DataFrame(lines)


def _table_row(run: FinishedRun, score: str) -> dict[str, Any]:
    told = run.report
    labels = run.evidence.kind == "label"
    line: dict[str, Any] = {"run": str(run.folder), "title": told["title"]}
    for name in dict.fromkeys((score, *(CLASSIFICATION_SCORES if labels else ()))):
        line[f"val {name}"] = val_score(run, name)
    if labels:
        rules = list(told.get("rule", {}).values())
        line["threshold"] = rules[0].get("threshold") if len(rules) == 1 else None
    scores = overall_scores(told["scores"][run.evaluated_split])
    for name in run.evidence.headline_metrics:
        line |= {
            name: scores[name]["value"],
            f"{name} low": scores[name]["low"],
            f"{name} high": scores[name]["high"],
        }
    return line
