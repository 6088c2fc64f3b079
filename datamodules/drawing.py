"""Sampling of an epoch's rows by share of positives, strata and hardness, as evenly as possible."""

from dataclasses import dataclass

import numpy as np

from datamodules.plan import EpochConfig
from datamodules.refusal import UserError

ROUNDING = 1e-6  # floating-point error of a whole number of images


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
    def is_plain(cls, rows: np.ndarray) -> "SamplingPool":
        """Make a pool in which all rows are wanted alike."""
        return cls(
            np.asarray(rows),
            np.ones(len(rows), bool),
            np.full(len(rows), "all"),
            np.ones(len(rows)),
        )

    def check(self, plan: EpochConfig, where: str) -> None:
        """Refuse a plan that cannot be sampled from these rows.

        Args:
            plan: What is wanted.
            where: The key that the user wrote it under.

        Raises:
            Refusal: names what is missing.
        """
        known = sorted(set(self.stratum.tolist()))
        unknown = sorted(set(plan.strata_weights or ()) - set(known))
        if unknown:
            raise UserError(
                f"{where}.strata_weights names {unknown[0]}, but the strata of train are"
                f" {', '.join(known)}; weigh those"
            )
        if plan.positive_fraction is None:
            return
        weights = self._weights(plan)
        for wanted, sign, name in (
            (plan.positive_fraction, self.positive, "positive"),
            (1 - plan.positive_fraction, ~self.positive, "negative"),
        ):
            if wanted > 0 and not weights[sign].any():
                raise UserError(
                    f"{where}.positive_fraction={plan.positive_fraction} needs {name} images, and"
                    " train has none of any weight; take another share, other strata_weights, or"
                    " null for the data's own"
                )

    def batches(self, plan: EpochConfig, world_size: int = 1) -> int:
        """Return the batches of an epoch on each of `world_size` processes.

        A last, smaller batch is left out, because it would harm BatchNorm.
        """
        if plan.batches:
            return plan.batches
        return max(1, int(1 / self.shares(plan).max() + ROUNDING) // (plan.batch_size * world_size))

    def shares(self, plan: EpochConfig) -> np.ndarray:
        """Return the share of an epoch that is wanted of each row; the sum is 1."""
        weights = self._weights(plan)
        if plan.positive_fraction is None:
            return weights / weights.sum()
        shares = np.zeros(len(weights))
        for sign, fraction in (
            (self.positive, plan.positive_fraction),
            (~self.positive, 1 - plan.positive_fraction),
        ):
            if fraction > 0:
                shares[sign] = fraction * weights[sign] / weights[sign].sum()
        return shares

    def sample(
        self, plan: EpochConfig, images: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sample the rows of one epoch, in the order they are shown.

        The number of positives is exact to within rounding. No row is sampled twice where the rows
        suffice; otherwise each is sampled as often as wanted, rounded up or down.

        Args:
            plan: What is wanted.
            images: Number of images.
            random: Generator of the order and of the rounding.

        Returns:
            Three arrays of `images`: the row, how often it was sampled before in this epoch, and
            whether it is positive.
        """
        weights = self._weights(plan)
        if plan.positive_fraction is None:
            drawn = self._systematic_sample(np.arange(len(self.rows)), weights, images, random)
        else:
            positives = round(plan.positive_fraction * images)
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

    def _weights(self, plan: EpochConfig) -> np.ndarray:
        wanted = self.hard_weight * np.where(self.positive, self.oversample, 1.0)
        if plan.strata_weights is None:
            return wanted
        names, member = np.unique(self.stratum, return_inverse=True)
        return (
            np.array([plan.strata_weights.get(name, 1.0) for name in names.tolist()])[member]
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


def _count_before(drawn: np.ndarray) -> np.ndarray:
    """Count the equal entries left of each entry; equal entries must be adjacent."""
    starts = np.flatnonzero(np.diff(drawn, prepend=-1))
    return np.arange(len(drawn)) - np.repeat(starts, np.diff(starts, append=len(drawn)))
