"""Tests of splits, which keep groups whole."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.errors import ManifestError
from datamodules.manifest.splitting import (
    assign_fold,
    assign_split,
    split_80_10_10,
    stratified_folds,
)


@given(
    st.lists(st.integers(0, 40), min_size=60, max_size=200), st.integers(2, 5), st.integers(0, 3)
)
def test_a_group_is_in_one_fold(groups, folds, seed):
    if len(set(groups)) < folds:
        return
    rows = pd.DataFrame(
        {"group": [str(g) for g in groups], "stratum": [str(g % 2) for g in groups]}
    )
    fold = stratified_folds(rows, folds, seed)
    assert (pd.Series(fold).groupby(rows["group"]).nunique() == 1).all()
    assert np.array_equal(fold, stratified_folds(rows, folds, seed))


def test_strata_are_shared_out():
    rows = pd.DataFrame(
        {"group": [str(i) for i in range(200)], "stratum": ["a"] * 150 + ["b"] * 50}
    )
    fold = stratified_folds(rows, 5, 0)
    assert [int(((fold == k) & (rows["stratum"] == "b")).sum()) for k in range(5)] == [10] * 5
    split = split_80_10_10(rows, 0)
    assert (split == "test").sum() == (split == "val").sum() == 20


def outer(train: int, val: int, test: int, images: int = 1) -> pd.DataFrame:
    """So many groups of each split, of so many images each."""
    split = np.repeat(["train", "val", "test"], [train, val, test])
    groups = [str(group) for group in range(len(split))]
    return pd.DataFrame(
        {"group": np.repeat(groups, images), "outer_split": np.repeat(split, images)}
    )


def test_folds_share_out_train_and_val_and_leave_test():
    rows = outer(40, 10, 10)
    splits = [assign_fold(rows, 5, k, "train_val", 0) for k in range(5)]
    assert all((s[50:] == "test").all() for s in splits)
    assert (np.stack([s == "val" for s in splits]).sum(0)[:50] == 1).all()
    assert assign_fold(rows, 0, 0, "train_val", 0).tolist() == rows["outer_split"].tolist()


def test_folds_of_train_alone_keep_val_and_test_both_out():
    rows = outer(20, 5, 5, images=2)
    splits = [assign_fold(rows, 4, k, "train", 0) for k in range(4)]
    assert all((s[40:] == "test").all() and not (s[:40] == "test").any() for s in splits)
    assert (np.stack([s == "val" for s in splits]).sum(0)[:40] == 1).all()
    assert all((pd.Series(s).groupby(rows["group"]).nunique() == 1).all() for s in splits)


def test_a_tenth_of_train_s_groups_becomes_the_val_that_is_missing():
    rows = outer(50, 0, 10, images=3).rename(columns={"outer_split": "split"})
    split = assign_split(rows, False, 0)
    assert (split[150:] == "test").all() and (split == "val").sum() == 15
    assert (pd.Series(split).groupby(rows["group"]).nunique() == 1).all()
    assert (
        split.tolist()
        == assign_split(rows, False, 0).tolist()
        != assign_split(rows, False, 1).tolist()
    )


def test_a_split_of_its_own_is_kept_and_one_anew_is_not():
    rows = outer(40, 5, 5).rename(columns={"outer_split": "split"})
    assert assign_split(rows, False, 0).tolist() == rows["split"].tolist()
    assert (
        assign_split(rows, True, 0).tolist()
        == assign_split(rows.drop(columns="split"), False, 0).tolist()
        == split_80_10_10(rows, 0).tolist()
    )
    with pytest.raises(ManifestError, match="no image is in split train"):
        assign_split(rows.assign(split="test"), False, 0)


def test_too_few_groups_are_refused_by_what_was_asked_for():
    with pytest.raises(ManifestError, match="2 groups cannot make 3 folds"):
        stratified_folds(pd.DataFrame({"group": ["a", "b"]}), 3, 0)
    few = pd.DataFrame({"group": list("abcde")})
    for rows in (few, few.assign(split=["test", *4 * ["train"]])):
        with pytest.raises(ManifestError, match="groups cannot be split into train") as refusal:
            assign_split(rows, False, 0)
        assert "fold" not in str(refusal.value)
