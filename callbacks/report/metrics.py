"""metrics.csv as a table with one row an epoch that was trained."""

from pathlib import Path

import pandas as pd
from pandas.errors import EmptyDataError


def per_epoch(path: Path) -> pd.DataFrame:
    """Epoch (from 0) -> what was logged of it; the validation of the best checkpoint, after the fit, is no epoch.

    Args:
        path: metrics.csv; a table without rows where it is missing or nothing was trained.
    """
    try:
        rows = pd.read_csv(path)
    except (FileNotFoundError, EmptyDataError):
        return pd.DataFrame()
    if "train/loss" not in rows:
        return pd.DataFrame()
    rows = rows[rows["epoch"].isin(rows["epoch"][rows["train/loss"].notna()])]
    return (
        rows.astype({"epoch": int}).groupby("epoch").first()
    )  # the first value of each column that is one
