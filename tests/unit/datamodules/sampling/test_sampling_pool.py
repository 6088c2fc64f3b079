"""Tests of sampling: share of positives, stratum weights and sampling without replacement."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.errors import UserError
from datamodules.sampling.config import EpochConfig, SamplingConfig
from datamodules.sampling.epoch_sampler import (
    SamplingPool,
    TrainingSampler,
    shard_epoch,
)


def pool(positives, negatives, boost=None, seed=0):
    """Rows in a mixed order; quartiles of the positives in turn."""
    n = positives + negatives
    positive = np.random.default_rng(seed).permutation(np.arange(n) < positives)
    quartile = np.array(["1_q1", "1_q2", "1_q3", "1_q4"])[np.cumsum(positive) % 4]
    return SamplingPool(
        np.arange(n) * 3,
        positive,
        np.where(positive, quartile, "0_none"),
        np.ones(n) if boost is None else boost,
    )


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(
    "batches", [None, 40]
)  # without replacement, and with: 40 batches want more than there are
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_every_rank_meets_the_asked_rate_to_within_one_image(fraction, batches, world_size):
    rows, plan = pool(61, 173), EpochConfig(64, 4, batches, fraction)
    ranks = [
        TrainingSampler(rows, lambda _: plan, 5, lambda: 3, rank, world_size)
        for rank in range(world_size)
    ]
    is_positive = dict(zip(rows.rows.tolist(), rows.positive.tolist(), strict=True))
    seen = [[is_positive[key.row] for batch in keys for key in batch] for keys in ranks]
    assert len({len(of_rank) for of_rank in seen}) == 1
    for of_rank in seen:
        assert abs(sum(of_rank) - fraction * len(of_rank)) <= 1
    assert abs(sum(map(sum, seen)) - fraction * sum(map(len, seen))) <= 0.5
    keys = [key for of_rank in ranks for batch in of_rank for key in batch]
    assert len(set(keys)) == len(
        keys
    )  # a row that comes again has another draw, so another augmentation
    if batches is None:
        assert len({key.row for key in keys}) == len(keys)  # nothing twice
    elif fraction == 1.0:
        times = np.bincount([key.row for key in keys])[::3]
        assert set(times[rows.positive[: len(times)]]) <= {
            160 * world_size // 61,
            160 * world_size // 61 + 1,
        }  # as evenly as can be


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 12),
    st.floats(0.05, 0.95),
    st.integers(1, 4),
)
def test_what_ranks_are_dealt_is_every_step_shared_out(
    positives, negatives, batch_size, batches, fraction, world_size
):
    plan = EpochConfig(32, batch_size, batches, fraction)
    images = batches * batch_size * world_size
    _, _, positive = pool(positives, negatives).sample(plan, images, np.random.default_rng(1))
    positions = shard_epoch(positive, batches, batch_size, world_size)
    for step in range(batches):
        wide = batch_size * world_size
        assert sorted(positions[:, step].ravel()) == list(range(step * wide, (step + 1) * wide))
    of_rank = positive[positions].sum((1, 2))
    assert of_rank.max() - of_rank.min() <= 1


def test_strata_are_shown_as_weighed():
    weights = {"1_q1": 1.0, "1_q2": 0.5, "1_q3": 0.25, "1_q4": 0.0}
    rows, plan = pool(400, 1000), EpochConfig(64, 10, 40, 0.5, weights)
    drawn, _, _ = rows.sample(plan, 400, np.random.default_rng(0))
    names, times = np.unique(rows.stratum[drawn // 3], return_counts=True)
    share = dict(zip(names.tolist(), times.tolist(), strict=True))
    assert share["0_none"] == 200 and "1_q4" not in share
    for name, wanted in (("1_q1", 200 / 1.75), ("1_q2", 100 / 1.75), ("1_q3", 50 / 1.75)):
        assert abs(share[name] - wanted) <= 1


def test_hard_rows_come_twice_as_often():
    boost = np.where(np.arange(300) % 3 == 0, 2.0, 1.0)
    rows = pool(100, 200, boost)
    times = np.zeros(300)
    for epoch in range(50):
        drawn, _, _ = rows.sample(EpochConfig(64, 10, 40), 400, np.random.default_rng(epoch))
        np.add.at(times, drawn // 3, 1)
    assert times[boost == 2].mean() / times[boost == 1].mean() == pytest.approx(2.0, rel=0.01)


def test_an_epoch_without_replacement_is_as_long_as_the_scarcest_kind_lasts():
    rows = pool(60, 540)
    assert rows.batches(EpochConfig(64, 1)) == 600
    assert rows.batches(EpochConfig(64, 1, positive_fraction=0.5)) == 120  # every positive once
    assert rows.batches(EpochConfig(64, 1, positive_fraction=0.1)) == 600
    assert rows.batches(EpochConfig(64, 1, positive_fraction=0.05)) == 568  # every negative once
    assert rows.batches(EpochConfig(64, 8, positive_fraction=0.5), world_size=3) == 5
    assert rows.batches(EpochConfig(64, 8, batches=7, positive_fraction=0.5)) == 7


def test_epochs_differ_and_repeat():
    rows, plan = pool(50, 100), EpochConfig(64, 10, positive_fraction=0.5)
    first, again, other = (
        rows.sample(plan, 100, np.random.default_rng([1, epoch]))[0].tolist() for epoch in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("plan", "wrong"),
    [
        (EpochConfig(64, 4, positive_fraction=0.5), "needs positive images"),
        (
            EpochConfig(64, 4, strata_weights={"1_q9": 1.0}),
            "names 1_q9, but the strata of train are 0_none",
        ),
    ],
)
def test_what_no_sampler_can_give_is_refused(plan, wrong):
    with pytest.raises(UserError, match=wrong):
        pool(0, 30).check(plan, "stage 1")


@pytest.mark.parametrize(
    "values",
    [{"positive_fraction": 1.2}, {"strata_weights": {"1_q1": -1.0}}, {"hard_negative": 0.0}],
)
def test_rates_that_are_none_are_refused(values):
    with pytest.raises(
        UserError, match=rf"{next(iter(values))}.* is not allowed; it must be a number"
    ):
        SamplingConfig(**values)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batches", [None, 40])
def test_oversampled_positives_are_shown_that_much_more_often_on_every_rank(batches, world_size):
    plain, plan = pool(60, 180), EpochConfig(64, 4, batches)
    rows = SamplingPool(
        plain.rows, plain.positive, plain.stratum, plain.hard_weight, oversample=1.5
    )
    is_positive = dict(zip(rows.rows.tolist(), rows.positive.tolist(), strict=True))
    share = 1.5 * 60 / (1.5 * 60 + 180)
    for rank in range(world_size):
        seen = [
            is_positive[key.row]
            for batch in TrainingSampler(rows, lambda _: plan, 5, lambda: 3, rank, world_size)
            for key in batch
        ]
        assert (
            abs(sum(seen) - share * len(seen)) <= 2
        )  # four strata of positives, each to within one image over all ranks
    assert np.array_equal(rows.hard_weight, np.ones(240))  # the loss does not weigh them
