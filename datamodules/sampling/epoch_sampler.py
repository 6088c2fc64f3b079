"""Decide which rows an epoch shows, in which order, and on which rank."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader, Sampler

from datamodules.errors import UserError
from datamodules.image_size import ImageSize, SampleKey
from datamodules.sampling.config import EpochConfig

ROUNDING_ERROR = 1e-6  # floating-point error of a whole number of images


@dataclass(frozen=True)
class SamplingPool:
    """The training rows as a sampler sees them; N of each.

    Attributes:
        rows: Row numbers of the manifest.
        positive: Which show a lesion.
        stratum: The name of each row's stratum.
        hard_weight: How much more often than others a row is wanted because it is hard; 1 for most.
        oversample: How much more often a positive row is wanted than a negative one.
    """

    rows: np.ndarray
    positive: np.ndarray
    stratum: np.ndarray
    hard_weight: np.ndarray
    oversample: float = 1.0

    @classmethod
    def unweighted(cls, rows: np.ndarray) -> "SamplingPool":
        """Make a pool in which all rows are wanted alike."""
        return cls(
            np.asarray(rows),
            np.ones(len(rows), bool),
            np.full(len(rows), "all"),
            np.ones(len(rows)),
        )

    def check(self, epoch_config: EpochConfig, where: str) -> None:
        """Refuse a plan that cannot be sampled from these rows.

        Args:
            epoch_config: What is wanted.
            where: The key that the user wrote it under.

        Raises:
            UserError: names what is missing.
        """
        known = sorted(set(self.stratum.tolist()))
        unknown = sorted(set(epoch_config.strata_weights or ()) - set(known))
        if unknown:
            raise UserError(
                f"{where}.strata_weights names {unknown[0]}, but the strata of train are"
                f" {', '.join(known)}; weigh those"
            )
        if epoch_config.positive_fraction is None:
            return
        weights = self._row_weights(epoch_config)
        for wanted, sign, name in (
            (epoch_config.positive_fraction, self.positive, "positive"),
            (1 - epoch_config.positive_fraction, ~self.positive, "negative"),
        ):
            if wanted > 0 and not weights[sign].any():
                raise UserError(
                    f"{where}.positive_fraction={epoch_config.positive_fraction} needs {name}"
                    " images, and train has none of any weight; take another share, other"
                    " strata_weights, or null for the data's own"
                )

    def batches(self, epoch_config: EpochConfig, world_size: int = 1) -> int:
        """Return the batches of an epoch on each of `world_size` processes.

        A last, smaller batch is left out, because it would harm BatchNorm.
        """
        if epoch_config.batches:
            return epoch_config.batches
        return max(
            1,
            int(1 / self.sampling_fractions(epoch_config).max() + ROUNDING_ERROR)
            // (epoch_config.batch_size * world_size),
        )

    def sampling_fractions(self, epoch_config: EpochConfig) -> np.ndarray:
        """Return the share of an epoch that is wanted of each row; the sum is 1.

        Rows of a sign that is wanted have NaN if none of them has any weight; see `check`.
        """
        weights = self._row_weights(epoch_config)
        if epoch_config.positive_fraction is None:
            return weights / weights.sum()
        shares = np.zeros(len(weights))
        for sign, fraction in (
            (self.positive, epoch_config.positive_fraction),
            (~self.positive, 1 - epoch_config.positive_fraction),
        ):
            if fraction > 0:
                with np.errstate(invalid="ignore"):
                    shares[sign] = fraction * weights[sign] / weights[sign].sum()
        return shares

    def sample(
        self, epoch_config: EpochConfig, images: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sample the rows of one epoch, in the order they are shown.

        The number of positives is exact to within rounding. No row is sampled twice where the rows
        suffice; otherwise each is sampled as often as wanted, rounded up or down.

        Args:
            epoch_config: What is wanted.
            images: Number of images.
            random: Generator of the order and of the rounding.

        Returns:
            Three arrays of `images`: the row, how often it was sampled before in this epoch, and
            whether it is positive.
        """
        weights = self._row_weights(epoch_config)
        if epoch_config.positive_fraction is None:
            drawn = self._systematic_sample(np.arange(len(self.rows)), weights, images, random)
        else:
            positives = round(epoch_config.positive_fraction * images)
            parts = [
                (np.flatnonzero(self.positive), positives),
                (np.flatnonzero(~self.positive), images - positives),
            ]
            drawn = np.concatenate(
                [
                    self._systematic_sample(part, weights[part], number, random)
                    for part, number in parts
                ]
            )
        before = _count_before(drawn)
        order = random.permutation(images)
        drawn, before = drawn[order], before[order]
        return self.rows[drawn], before, self.positive[drawn]

    def _row_weights(self, epoch_config: EpochConfig) -> np.ndarray:
        wanted = self.hard_weight * np.where(self.positive, self.oversample, 1.0)
        if epoch_config.strata_weights is None:
            return wanted
        names, member = np.unique(self.stratum, return_inverse=True)
        return (
            np.array([epoch_config.strata_weights.get(name, 1.0) for name in names.tolist()])[
                member
            ]
            * wanted
        )

    def _systematic_sample(
        self, members: np.ndarray, weights: np.ndarray, number: int, random: np.random.Generator
    ) -> np.ndarray:
        """Sample `number` members, each as often as its weight says, rounded up or down.

        Each stratum gets its share to within one.
        """
        if not number:
            return members[:0]
        order = random.permutation(len(members))
        order = order[
            np.argsort(
                np.unique(self.stratum[members], return_inverse=True)[1][order], kind="stable"
            )
        ]
        edges = np.cumsum(weights[order])
        edges *= number / edges[-1]
        edges[-1] = number
        times = np.diff(np.floor(edges + random.random()), prepend=0).astype(int)
        return np.repeat(members[order], times)


def _count_before(sampled: np.ndarray) -> np.ndarray:
    """Count the equal entries left of each entry; equal entries must be adjacent."""
    starts = np.flatnonzero(np.diff(sampled, prepend=-1))
    return np.arange(len(sampled)) - np.repeat(starts, np.diff(starts, append=len(sampled)))


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


class TrainingSampler(Sampler[list[SampleKey]]):
    """Batches of keys, sampled from (seed, epoch) alone and sharded over the ranks.

    The plan of an epoch, with its batch and image size, is read at its start. With R ranks a step
    shows `R * batch_size` images, which depend on this product and not on R alone, and every rank
    has its part of the positives.

    Args:
        pool: The rows to sample from.
        epoch_config: Returns the plan of an epoch, given its number.
        seed: Seed of the sampling and of its order.
        epoch: Returns the number of the epoch that starts.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        pool: SamplingPool,
        epoch_config: Callable[[int], EpochConfig],
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.pool = pool
        self.epoch_config = epoch_config
        self.seed = seed
        self.epoch = epoch
        self.rank = rank
        self.world_size = world_size
        self.skip = 0  # batches of the next epoch that were seen before an interruption

    def __len__(self) -> int:
        return self.pool.batches(self.epoch_config(self.epoch()), self.world_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first, self.skip = self.skip, 0
        epoch = self.epoch()
        rows, draws = self.sampled_rows(epoch)
        size = self.epoch_config(epoch).image_size
        for of_batch, draw in zip(rows[first:].tolist(), draws[first:].tolist(), strict=True):
            yield [
                SampleKey(row, epoch, number, size)
                for row, number in zip(of_batch, draw, strict=True)
            ]

    def sampled_rows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return this rank's rows of an epoch, and how often each was sampled before in it.

        Both are `batches x batch_size`.
        """
        plan = self.epoch_config(epoch)
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


class ResumableDataLoader(DataLoader):
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
