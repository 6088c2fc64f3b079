"""Tests of sample keys over ranks and epochs, and of resuming after an interruption."""

import pytest

from datamodules.sampling.config import EpochConfig
from datamodules.sampling.epoch_sampler import (
    EvaluationSampler,
    SamplingPool,
    TrainingSampler,
)


def keys(epoch=0, rows=range(20), batches=None, batch_size=3, **more):
    plan = EpochConfig(64, batch_size, batches)
    return TrainingSampler(
        **{
            "pool": SamplingPool.unweighted(rows),
            "epoch_config": lambda _: plan,
            "seed": 1,
            "epoch": lambda: epoch,
        }
        | more
    )


def test_an_epoch_shows_each_row_once_and_repeats_exactly():
    shown = [key.row for batch in keys() for key in batch]
    assert len(shown) == 18 and len(set(shown)) == 18
    assert list(keys()) == list(keys())


def test_another_epoch_and_another_seed_show_the_rows_in_another_order():
    """The keys name their epoch, so they differ in any case."""
    first, later, other = (
        [key.row for batch in keys(**how) for key in batch]
        for how in ({}, {"epoch": 1}, {"seed": 2})
    )
    assert first != later and first != other and later != other


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_same_steps(world_size):
    ranks = [list(keys(batch_size=2, rank=r, world_size=world_size)) for r in range(world_size)]
    one = list(keys(batch_size=2 * world_size))
    assert [sorted(key for rank in ranks for key in rank[b]) for b in range(len(one))] == [
        sorted(batch) for batch in one
    ]


def test_more_batches_than_rows_draw_again():
    drawn = [key for batch in keys(batches=10) for key in batch]
    assert len(drawn) == 30 == len(set(drawn)) and {key.repeat for key in drawn} == {0, 1}


def test_a_skip_holds_for_one_epoch():
    whole, sampler = list(keys()), keys()
    sampler.skip = 4
    assert list(sampler) == whole[4:] and list(sampler) == whole


def test_evaluation_shows_each_row_once_over_all_ranks():
    ranks = [
        [key.row for batch in EvaluationSampler(range(11), 2, lambda: 64, r, 3) for key in batch]
        for r in range(3)
    ]
    assert sorted(row for rank in ranks for row in rank) == list(range(11))
