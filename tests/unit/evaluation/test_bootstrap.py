"""Tests of the resampling of groups, the percentile interval and the paired difference."""

import numpy as np
import pytest

from evaluation import bootstrap
from evaluation.bootstrap import bootstrap_weights, paired_difference, percentile_interval

REPLICATES = np.random.default_rng(0).normal(size=400)


def test_an_interval_takes_twenty_groups_and_a_defined_replicate():
    low, high, degenerate = percentile_interval(REPLICATES, 20)
    assert (low, high, degenerate) == (*np.quantile(REPLICATES, [0.025, 0.975]), 0)
    assert percentile_interval(REPLICATES, 19) == (None, None, 0)
    assert percentile_interval(np.full(7, np.nan), 20) == (None, None, 7)
    assert percentile_interval(np.zeros(0), 20) == (None, None, 0)
    undefined = np.append(REPLICATES, [np.nan, np.inf, -np.inf])
    assert percentile_interval(undefined, 20) == (low, high, 3)


def test_a_difference_is_taken_replicate_by_replicate_where_both_are_defined():
    first, second = REPLICATES[:200].copy(), REPLICATES[200:].copy()
    first[0] = second[1] = np.nan
    found = paired_difference(first, second, 0.5, 20)
    gap = (second - first)[2:]
    assert (found.low, found.high) == tuple(np.quantile(gap, [0.025, 0.975]))
    assert found.value == 0.5 and found.share_above == (gap > 0).mean()
    few = paired_difference(first, second, 0.5, 19)
    assert (few.low, few.high) == (None, None) and few.share_above == found.share_above
    none = paired_difference(np.zeros(0), np.zeros(0), 0.5, 19)
    assert (none.value, none.low) == (0.5, None) and np.isnan(none.share_above)


@pytest.mark.parametrize("held", [1, 90, 1200, 4000])
def test_weights_are_the_same_however_many_are_held_at_once(monkeypatch, held):
    groups = np.array([f"p{i // 3:02}" for i in range(90)])
    plain = np.random.default_rng(4).multinomial(30, np.full(30, 1 / 30), size=40).repeat(3, 1)
    monkeypatch.setattr(bootstrap, "MAX_BLOCK_NUMBERS", held)
    for numbers in (0, 400):
        blocks = list(bootstrap_weights(groups, 40, 4, numbers))
        assert np.array_equal(np.concatenate(blocks), plain)
        assert max(map(len, blocks)) == min(40, max(1, held // max(90, numbers)))
