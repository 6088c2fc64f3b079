"""Distribution of an epoch's images over processes.

Each process has its part of the positives, and a step shows the same images whatever the number
of processes.
"""

import numpy as np


def shard_epoch(positive: np.ndarray, batches: int, batch_size: int, world_size: int) -> np.ndarray:
    """Distribute an epoch's images over processes so that each gets its part of the positives.

    A step shows the same images whatever the number of processes. Within it positives are dealt in
    turn, and the next step continues where the last one stopped.

    Args:
        positive: Bools of all images of the epoch, in order.
        batches: Steps.
        batch_size: Images per step and process.
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
