"""Samplers of keys: the rows that an epoch shows, their order, and the rank that sees them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import DataLoader, Sampler

from datamodules.dealing import shard_epoch
from datamodules.drawing import SamplingPool
from datamodules.image_size import ImageSize, SampleKey
from datamodules.plan import EpochConfig


class TrainingSampler(Sampler[list[SampleKey]]):
    """Batches of keys, sampled from (seed, epoch) alone and sharded over the ranks.

    The plan of an epoch, with its batch and image size, is read at its start. With R ranks a step
    shows `R * batch_size` images, which depend on this product and not on R alone, and every rank
    has its part of the positives.

    Args:
        pool: The rows to sample from.
        plan: Returns the plan of an epoch, given its number.
        seed: Seed of the sampling and of its order.
        epoch: Returns the number of the epoch that starts.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        pool: SamplingPool,
        plan: Callable[[int], EpochConfig],
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.pool = pool
        self.plan = plan
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world_size = world_size
        self.skip = 0  # batches of the next epoch that were seen before an interruption

    def __len__(self) -> int:
        return self.pool.batches(self.plan(self.epoch()), self.world_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first, self.skip = self.skip, 0
        epoch = self.epoch()
        rows, draws = self.sampled_rows(epoch)
        size = self.plan(epoch).image_size
        for of_batch, draw in zip(rows[first:].tolist(), draws[first:].tolist(), strict=True):
            yield [
                SampleKey(row, epoch, number, size)
                for row, number in zip(of_batch, draw, strict=True)
            ]

    def sampled_rows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return this rank's rows of an epoch, and how often each was sampled before in it.

        Both are `batches x batch_size`.
        """
        plan = self.plan(epoch)
        batches = self.pool.batches(plan, self.world_size)
        images = batches * plan.batch_size * self.world_size
        rows, draws, positive = self.pool.sample(
            plan, images, np.random.default_rng([self.seed, epoch])
        )
        mine = shard_epoch(positive, batches, plan.batch_size, self.world_size)[self.rank]
        return rows[mine], draws[mine]


class EvaluationSampler(Sampler[list[SampleKey]]):
    """Every row once, in order; rank r takes each R-th row, and nothing is padded or repeated.

    Args:
        rows: Row numbers.
        batch_size: Rows of each batch but the last.
        image_size: Returns the canvas; called at each start.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        rows: Sequence[int] | np.ndarray,
        batch_size: int,
        image_size: Callable[[], ImageSize],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        mine = np.asarray(rows)[rank::world_size].tolist()
        self._batches = [
            mine[start : start + batch_size] for start in range(0, len(mine), batch_size)
        ]
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        size = self.image_size()
        return ([SampleKey(row, 0, 0, size) for row in batch] for batch in self._batches)


class ResumableLoader(DataLoader):
    """A loader whose state is the number of batches already trained on in this epoch.

    Lightning saves and restores it.

    Args:
        consumed: Returns that number when a checkpoint is written; 0 where the epoch is complete.
        **loader: As `DataLoader`, with a `TrainingSampler` as batch_sampler.
    """

    def __init__(self, *, consumed: Callable[[], int], **loader: object) -> None:
        super().__init__(**loader)  # type: ignore[arg-type]
        self._consumed = consumed

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches consumed of an unfinished epoch."""
        return {"batches": self._consumed()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next epoch start after the batches that were seen."""
        self.batch_sampler.skip = state["batches"]  # type: ignore[union-attr]
