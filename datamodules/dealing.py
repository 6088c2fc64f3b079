"""Shares the images of an epoch out over processes: each has its part of the positives, and a step shows the same images whatever their number."""

import numpy as np


def dealt(positive: np.ndarray, batches: int, batch_size: int, world_size: int) -> np.ndarray:
    """Shares the images of an epoch out so that every process gets its part of the positives.

    The images of a step stay the same whatever the number of processes; within it positives are
    dealt in turn, and the next step goes on where the last stopped.

    Args:
        positive: Bools of all images of the epoch, in order.
        batches: Steps.
        batch_size: Images a step and process.
        world_size: Processes.

    Returns:
        Positions `world_size x batches x batch_size` in that order.
    """
    wide = batch_size * world_size
    position = np.arange(batches * wide).reshape(batches, wide)
    if world_size == 1:
        return position[None]
    steps = positive.reshape(batches, wide)
    position = np.take_along_axis(position, np.argsort(~steps, axis=1, kind="stable"), axis=1)
    found = steps.sum(1)
    rank = (np.arange(wide) + (np.cumsum(found) - found)[:, None]) % world_size
    by_rank = np.take_along_axis(position, np.argsort(rank, axis=1, kind="stable"), axis=1)
    return by_rank.reshape(batches, world_size, batch_size).transpose(1, 0, 2)
