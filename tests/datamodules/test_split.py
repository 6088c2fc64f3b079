"""Splits keep groups whole, whatever the groups are."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.refusal import ManifestError
from datamodules.split import as_fold, fold_of, three_way


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=60, max_size=200), st.integers(2, 5), st.integers(0, 3))
def test_a_group_is_in_one_fold(groups, folds, seed):
    if len(set(groups)) < folds:
        return
    rows = pd.DataFrame({"group": [str(g) for g in groups], "stratum": [str(g % 2) for g in groups]})
    fold = fold_of(rows, folds, seed)
    assert (pd.Series(fold).groupby(rows["group"]).nunique() == 1).all()
    assert np.array_equal(fold, fold_of(rows, folds, seed))


def test_strata_are_shared_out():
    rows = pd.DataFrame({"group": [str(i) for i in range(200)], "stratum": ["a"] * 150 + ["b"] * 50})
    fold = fold_of(rows, 5, 0)
    assert [int(((fold == k) & (rows["stratum"] == "b")).sum()) for k in range(5)] == [10] * 5
    split = three_way(rows, 0)
    assert (split == "test").sum() == (split == "val").sum() == 20


def test_folds_share_out_train_and_val_and_leave_test():
    rows = pd.DataFrame({"group": [str(i) for i in range(60)], "split": ["train"] * 40 + ["val"] * 10 + ["test"] * 10})
    splits = [as_fold(rows, 5, k, 0) for k in range(5)]
    assert all((s[50:] == "test").all() for s in splits)
    assert (np.stack([s == "val" for s in splits]).sum(0)[:50] == 1).all()


def test_too_few_groups_are_refused():
    with pytest.raises(ManifestError, match="2 groups cannot make 3 folds"):
        fold_of(pd.DataFrame({"group": ["a", "b"]}), 3, 0)
