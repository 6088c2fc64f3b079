"""Samplers that select the rows of an epoch, their order and their rank."""

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
    """Training rows with what their sampling depends on; all arrays have length N.

    Attributes:
        rows: Row numbers in the manifest.
        positive: True for rows that show a lesion.
        stratum: Name of each row's stratum.
        hard_weight: Factor of the sampling weight of hard rows; 1 for all others.
        oversample: Sampling weight of a positive row relative to a negative one.
    """

    rows: np.ndarray
    positive: np.ndarray
    stratum: np.ndarray
    hard_weight: np.ndarray
    oversample: float = 1.0

    @classmethod
    def unweighted(cls, rows: np.ndarray) -> "SamplingPool":
        """Make a pool that samples all rows equally."""
        return cls(
            np.asarray(rows),
            np.ones(len(rows), bool),
            np.full(len(rows), "all"),
            np.ones(len(rows)),
        )

    def restrict(self, rows: np.ndarray) -> "SamplingPool":
        """Return the pool of some of these rows; each counts once, however often it is given."""
        kept = np.isin(self.rows, rows)
        return SamplingPool(
            self.rows[kept],
            self.positive[kept],
            self.stratum[kept],
            self.hard_weight[kept],
            self.oversample,
        )

    def check(self, epoch_config: EpochConfig, where: str) -> None:
        """Refuse an epoch configuration that cannot be sampled from these rows.

        Args:
            epoch_config: Configuration of the epoch.
            where: Key of the configuration, for the message.

        Raises:
            UserError: Strata or images are missing; the message names them.
        """
        known = sorted(set(self.stratum.tolist()))
        unknown = sorted(set(epoch_config.strata_weights or ()) - set(known))
        if unknown:
            raise UserError(
                f"{where}.strata_weights names {unknown[0]}, but the strata of train are"
                f" {', '.join(known)}; set weights of those"
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
                    " images, but train has none with a weight above 0; set another fraction, other"
                    " strata_weights, or null for the data's own fraction"
                )

    def batches(self, epoch_config: EpochConfig, world_size: int = 1) -> int:
        """Return the number of batches of an epoch on each of `world_size` processes.

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
        """Return each row's expected fraction of an epoch; the sum is 1.

        It is NaN for the positive or negative rows if they are wanted and none has any weight; see
        `check`.
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

        The number of positives is exact to within rounding. No row is sampled twice if there are
        enough rows; otherwise each is sampled in proportion to its weight, rounded up or down.

        Args:
            epoch_config: Configuration of the epoch.
            images: Number of images.
            random: Generator of the order and of the rounding.

        Returns:
            Three arrays of length `images`: the row, the number of times it was sampled before in
                this epoch, and True if it is positive.
        """
        weights = self._row_weights(epoch_config)
        if epoch_config.positive_fraction is None:
            sampled = self._systematic_sample(np.arange(len(self.rows)), weights, images, random)
        else:
            positives = round(epoch_config.positive_fraction * images)
            parts = [
                (np.flatnonzero(self.positive), positives),
                (np.flatnonzero(~self.positive), images - positives),
            ]
            sampled = np.concatenate(
                [
                    self._systematic_sample(part, weights[part], number, random)
                    for part, number in parts
                ]
            )
        before = _count_before(sampled)
        order = random.permutation(images)
        sampled, before = sampled[order], before[order]
        return self.rows[sampled], before, self.positive[sampled]

    def _row_weights(self, epoch_config: EpochConfig) -> np.ndarray:
        weights = self.hard_weight * np.where(self.positive, self.oversample, 1.0)
        if epoch_config.strata_weights is None:
            return weights
        names, member = np.unique(self.stratum, return_inverse=True)
        return (
            np.array([epoch_config.strata_weights.get(name, 1.0) for name in names.tolist()])[
                member
            ]
            * weights
        )

    def _systematic_sample(
        self, members: np.ndarray, weights: np.ndarray, number: int, random: np.random.Generator
    ) -> np.ndarray:
        """Sample `number` members in proportion to their weights, rounded up or down.

        The number from each stratum is exact to within one.
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
    """Count the equal entries before each entry; equal entries must be adjacent."""
    starts = np.flatnonzero(np.diff(sampled, prepend=-1))
    return np.arange(len(sampled)) - np.repeat(starts, np.diff(starts, append=len(sampled)))


def shard_epoch(positive: np.ndarray, batches: int, batch_size: int, world_size: int) -> np.ndarray:
    """Distribute an epoch's images over processes so that each gets its share of the positives.

    A step shows the same images for any number of processes. Within a step positives are assigned
    to the processes in turn, and the next step continues with the next process.

    Args:
        positive: True for positive images, in the order of the epoch.
        batches: Number of steps.
        batch_size: Images per step and process.
        world_size: Number of processes.

    Returns:
        Positions `world_size x batches x batch_size` in that order.
    """
    wide = batch_size * world_size
    position = np.arange(batches * wide).reshape(batches, wide)
    if world_size == 1:
        return position[None]
    steps = positive.reshape(batches, wide)
    position = np.take_along_axis(position, np.argsort(~steps, axis=1, kind="stable"), axis=1)
    positives = steps.sum(1)
    rank = (np.arange(wide) + (np.cumsum(positives) - positives)[:, None]) % world_size
    by_rank = np.take_along_axis(position, np.argsort(rank, axis=1, kind="stable"), axis=1)
    return by_rank.reshape(batches, world_size, batch_size).transpose(1, 0, 2)


class TrainingSampler(Sampler[list[SampleKey]]):
    """Sampler of batches of keys, which follow from (seed, epoch) and are sharded over the ranks.

    The configuration of an epoch, with its batch size and image size, is read at its start. With R
    ranks a step shows `R * batch_size` images, which depend on this product and not on R alone, and
    every rank has its share of the positives.

    Args:
        pool: Rows to sample from.
        epoch_config: Function that returns the configuration of an epoch, given its number.
        seed: Seed of the sampling and of its order.
        epoch: Function that returns the number of the epoch that starts.
        rank: Rank of this process.
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
        self.skip = 0  # batches of the next epoch that were trained on before an interruption

    def __len__(self) -> int:
        return self.pool.batches(self.epoch_config(self.epoch()), self.world_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        first, self.skip = self.skip, 0
        epoch = self.epoch()
        rows, repeats = self.sampled_rows(epoch)
        size = self.epoch_config(epoch).image_size
        for batch_rows, batch_repeats in zip(
            rows[first:].tolist(), repeats[first:].tolist(), strict=True
        ):
            yield [
                SampleKey(row, epoch, repeat, size)
                for row, repeat in zip(batch_rows, batch_repeats, strict=True)
            ]

    def sampled_rows(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return this rank's rows of an epoch, and how often each was sampled before in it.

        Both are `batches x batch_size`.
        """
        config = self.epoch_config(epoch)
        batches = self.pool.batches(config, self.world_size)
        images = batches * config.batch_size * self.world_size
        rows, repeats, positive = self.pool.sample(
            config, images, np.random.default_rng([self.seed, epoch])
        )
        mine = shard_epoch(positive, batches, config.batch_size, self.world_size)[self.rank]
        return rows[mine], repeats[mine]


class EvaluationSampler(Sampler[list[SampleKey]]):
    """Sampler of every row once, in order; rank r of R takes every R-th row, without padding.

    Args:
        rows: Row numbers.
        batch_size: Number of rows of each batch but the last.
        image_size: Function that returns the image size; it is called at the start of each pass.
        rank: Rank of this process.
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
    """Data loader whose state is the number of batches already trained on in this epoch.

    Lightning saves and restores it.

    Args:
        consumed: Function that returns that number when a checkpoint is written; 0 after a complete
            epoch.
        **loader: Arguments of `DataLoader`, with a `TrainingSampler` as batch_sampler.
    """

    def __init__(self, *, consumed: Callable[[], int], **loader: object) -> None:
        super().__init__(**loader)  # type: ignore[arg-type]
        self._consumed = consumed

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches consumed of an unfinished epoch."""
        return {"batches": self._consumed()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Make the next epoch start after the batches that were trained on."""
        self.batch_sampler.skip = state["batches"]  # type: ignore[union-attr]
