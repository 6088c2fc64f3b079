"""Stratified splits by group (patient) into three parts or k folds; every group is in one part."""

import warnings

import numpy as np
import pandas as pd

from datamodules.errors import ManifestError

TENTHS = 10  # parts that a split into train, val and test is made of


def stratified_folds(rows: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """Return the fold 0..folds-1 of every row, stratified by `stratum` if present, else by `label`.

    Raises:
        ManifestError: There are fewer groups than folds.
    """
    groups = rows["group"].to_numpy()
    if len(np.unique(groups)) < folds:
        raise ManifestError(
            f"{len(np.unique(groups))} groups cannot make {folds} folds; lower folds or add"
            f" patients"
        )
    by = next((name for name in ("stratum", "label") if name in rows), None)
    stratum = np.zeros(len(rows), int) if by is None else rows[by].astype(str).to_numpy()
    if np.unique(stratum, return_counts=True)[1].max() < folds:
        stratum = np.zeros(len(rows), int)  # no stratum has a member for each fold
    from sklearn.model_selection import StratifiedGroupKFold  # imported here: takes a second

    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold = np.empty(len(rows), int)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The least populated class"
        )  # a stratum with fewer members than folds is spread over as many folds as it has members
        for number, (_, members) in enumerate(splitter.split(rows, stratum, groups)):
            fold[members] = number
    return fold


def split_80_10_10(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Return a split of every row: a tenth of the groups in val, a tenth in test, else train."""
    fold = _stratified_tenths(rows, seed)
    return np.where(fold == 0, "test", np.where(fold == 1, "val", "train"))


def _stratified_tenths(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Return the tenth 0..9 of every row, from which val and test are taken.

    Raises:
        ManifestError: fewer than ten groups.
    """
    groups = rows["group"].nunique()
    if groups < TENTHS:
        raise ManifestError(
            f"{groups} groups cannot be split into train, val and test (at least {TENTHS} are"
            " needed, because val and test are a tenth each); add more patients"
        )
    return stratified_folds(rows, TENTHS, seed)


def assign_fold(rows: pd.DataFrame, folds: int, fold: int, fold_pool: str, seed: int) -> np.ndarray:
    """Return the split of every row when fold number `fold` becomes val.

    Args:
        rows: Table with the column `outer_split`, which is returned if `folds` is 0.
        folds: Number of folds.
        fold: Number of the fold that becomes val.
        fold_pool: `train_val` makes folds of train and val; `train` makes folds of train only, and
            val becomes part of `test`.
        seed: Seed of the folds.
    """
    outer = rows["outer_split"].to_numpy()
    if not folds:
        return outer
    split = np.full(len(rows), "test", dtype=object)
    pooled = outer == "train" if fold_pool == "train" else outer != "test"
    split[pooled] = np.where(stratified_folds(rows[pooled], folds, seed) == fold, "val", "train")
    return split


def assign_split(rows: pd.DataFrame, by_group: bool, seed: int) -> np.ndarray:
    """Return the split of every row: its own, or a new one by group.

    If only val is missing, a tenth of the groups in train becomes val.

    Raises:
        ManifestError: Train or val is empty.
    """
    if by_group or "split" not in rows:
        return split_80_10_10(rows, seed)
    split = rows["split"].to_numpy(dtype=object).copy()
    train = split == "train"
    if train.any() and not (split == "val").any():
        split[train] = np.where(_stratified_tenths(rows[train], seed) == 0, "val", "train")
    for name in ("train", "val"):
        if not (split == name).any():
            raise ManifestError(
                f"no image is in split {name}; add some, or make a new split with"
                f" datamodule.split=group"
            )
    return split
