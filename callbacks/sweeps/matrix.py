"""A score of every fit: a row a fold, a column a seed, with their means."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from callbacks.comparison.finished import get_score
from callbacks.comparison.ranking import Ranking, choose_ranking, get_monitor
from callbacks.sweeps.folds import FoldRun
from callbacks.sweeps.out_of_fold import SeedRuns
from lightning_modules.evidence import Evidence


def common_monitor(fold_runs: Sequence[FoldRun], evidence: Evidence) -> Ranking:
    """The score that all fits monitored, else the first of their pages."""
    head = evidence.headline_metrics[0]
    return choose_ranking(
        [get_monitor(fit.config, head) for fit in fold_runs],
        {score.name for score in evidence.scores},
        head,
    )


def fold_seed_matrix(
    seeds: Sequence[SeedRuns], split: str, score: str, folder: Path
) -> dict[str, Any]:
    """Values, pages and means; None where a fit is not there or its score is undefined.

    Args:
        seeds: The columns, also those that left nothing.
        split: Of the score.
        score: Its name.
        folder: From which pages are linked.
    """
    folds = sorted(
        {
            fold
            for seed in seeds
            for fold in (*seed.fold_runs, *seed.missing_reasons)
            if fold is not None
        }
    )
    cells = [[_matrix_cell(seed, fold, split, score, folder) for seed in seeds] for fold in folds]
    values = [[cell["value"] for cell in row] for row in cells]
    return {
        "folds": folds,
        "seeds": [seed.seed for seed in seeds],
        "cells": cells,
        "of_folds": [mean_and_sd(row) for row in values],
        "of_seeds": [mean_and_sd(column) for column in zip(*values, strict=True)],
        "of_all": mean_and_sd([value for row in values for value in row]),
    }


def _matrix_cell(
    seed_runs: SeedRuns, fold: int, split: str, score: str, folder: Path
) -> dict[str, Any]:
    fit = seed_runs.fold_runs.get(fold)
    value = get_score(fit.report, split, score) if fit else float("nan")
    page = os.path.relpath(fit.folder / "report.html", folder) if fit else None
    return {
        "value": value if value == value else None,
        "page": page,
        "why": seed_runs.missing_reasons.get(fold),
    }


def mean_and_sd(values: Iterable[float | None]) -> dict[str, float | None]:
    """Mean and standard deviation of those that are known; None where there are too few."""
    known = [value for value in values if value is not None and value == value]
    return {"mean": fmean(known) if known else None, "sd": stdev(known) if len(known) > 1 else None}
