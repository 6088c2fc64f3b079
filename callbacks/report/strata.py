"""Tabulates the strata that training sampled, where they are too many for curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from callbacks.report.metrics import read_epochs
from callbacks.report.stages import POSITIVE, stage_sampling, stratum_fractions

MAX_STRATA = 8  # strata that a figure shows
NO_STRATA = ("images", "positive_fraction")


def stratum_curves(table: pd.DataFrame) -> list[str]:
    """Return the columns of the figure: positives and, unless too many, the strata."""
    names = stratum_fractions(table)
    return [name for name in names if name == POSITIVE] if _enough_strata(names) else names


def strata_table(run_dir: Path, stages: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return column -> stratum -> share of the images; empty if the figure shows the strata.

    Args:
        run_dir: Run folder with metrics.csv.
        stages: Stages from `read_stages`, a column each; without any, the first and the last epoch
            have a column.
    """
    table = read_epochs(run_dir / "metrics.csv")
    if not _enough_strata(stratum_fractions(table)):
        return {}
    ends = {
        f"epoch {table.index[row] + 1}": stage_sampling(table.iloc[[row]])
        for row in (0, -1)
        if len(table) > 1
    }
    columns = {"all epochs": stage_sampling(table)} | (
        {f"stage {stage['stage']}": stage["drawn"] for stage in stages} or ends
    )
    return {
        title: {name: share for name, share in shares.items() if name not in NO_STRATA}
        for title, shares in columns.items()
    }


def _enough_strata(names: Sequence[str]) -> bool:
    return len([name for name in names if name != POSITIVE]) > MAX_STRATA
