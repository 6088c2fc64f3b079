"""Reads metrics.csv as a table with one row per trained epoch."""

from pathlib import Path

import pandas as pd
from pandas.errors import EmptyDataError


def read_epochs(path: Path) -> pd.DataFrame:
    """Return epoch (from 0) -> logged values, without the validation after the fit.

    Args:
        path: metrics.csv; the table is empty if it is missing or nothing was trained.
    """
    try:
        rows = pd.read_csv(path)
    except (FileNotFoundError, EmptyDataError):
        return pd.DataFrame()
    if "train/loss" not in rows:
        return pd.DataFrame()
    rows = rows[rows["epoch"].isin(rows["epoch"][rows["train/loss"].notna()])]
    # the first value of each column that is not missing
    return rows.astype({"epoch": int}).groupby("epoch").first()
