"""Which rows an epoch shows, in which order, to which rank."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import DataLoader, Sampler

from datamodules.sample import Key


class TrainingKeys(Sampler[list[Key]]):
    """Batches of keys, drawn from (seed, epoch) alone and sharded here, so that every rank sees its own part.

    The stream of a whole epoch is fixed by the seed; with R ranks the global batch is `R * batch_size` consecutive keys of
    it. An epoch that asks for more keys than there are rows starts a new permutation, and `draw` counts up.

    Args:
        rows: Row numbers to draw from.
        batch_size: Keys a batch and rank.
        image_size: Side of the canvas in pixels.
        seed: Seed of the order.
        epoch: Asked at each start of an epoch for its number.
        batches: Batches an epoch and rank; None for as many full ones as the rows give.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        rows: Sequence[int] | np.ndarray,
        batch_size: int,
        image_size: int,
        seed: int,
        epoch: Callable[[], int],
        batches: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.rows = np.asarray(rows)
        self.batch_size = batch_size
        self.image_size = image_size
        self.seed = seed
        self.epoch = epoch
        self.batches = batches or full_batches(len(self.rows), batch_size, world_size)
        self.rank = rank
        self.world_size = world_size
        self.skip = 0  # batches of the next epoch that were seen before an interruption

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Key]]:
        first, self.skip = self.skip, 0
        keys = self.stream(self.epoch())
        wide = self.batch_size * self.world_size
        for batch in range(first, self.batches):
            start = batch * wide + self.rank * self.batch_size
            yield keys[start : start + self.batch_size]

    def stream(self, epoch: int) -> list[Key]:
        """All keys of an epoch, over all ranks."""
        needed = self.batches * self.batch_size * self.world_size
        random = np.random.default_rng([self.seed, epoch])
        keys: list[Key] = []
        for draw in range(-(-needed // len(self.rows))):
            keys += [Key(int(row), epoch, draw, self.image_size) for row in random.permutation(self.rows)]
        return keys[:needed]


def full_batches(rows: int, batch_size: int, world_size: int = 1) -> int:
    """Batches an epoch and rank without a last, smaller one, which BatchNorm would not bear; at least one."""
    return max(1, rows // (batch_size * world_size))


class EvaluationKeys(Sampler[list[Key]]):
    """Every row once, in order; rank r takes each R-th row, and nothing is padded or repeated."""

    def __init__(self, rows: Sequence[int] | np.ndarray, batch_size: int, image_size: int, rank: int = 0, world_size: int = 1) -> None:
        keys = [Key(int(row), 0, 0, image_size) for row in rows][rank::world_size]
        self._batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self._batches)


class ResumableLoader(DataLoader):
    """A loader whose state is the number of batches already trained on in this epoch; Lightning saves and restores it.

    Args:
        consumed: Asked for that number when a checkpoint is written; 0 where the epoch is complete.
        **loader: As `DataLoader`, with a `TrainingKeys` as batch_sampler.
    """

    def __init__(self, *, consumed: Callable[[], int], **loader: object) -> None:
        super().__init__(**loader)  # type: ignore[arg-type]
        self._consumed = consumed

    def state_dict(self) -> dict[str, int]:
        """Batches consumed of an epoch that is not over."""
        return {"batches": self._consumed()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next epoch starts behind the batches that were seen."""
        self.batch_sampler.skip = state["batches"]  # type: ignore[union-attr]
