"""Difference of two arms on the same images, with its interval from a paired bootstrap.

Patients are resampled in pairs; the runs (seeds) of each arm are resampled on their own.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_modules.evidence import Evidence
from lightning_modules.score import Metric
from lightning_modules.uncertainty import (
    MIN_GROUPS,
    RESAMPLES,
    nanmean_classes,
    percentile_interval,
    resample_scores,
)

TIE_TOLERANCE = 1e-12  # what rounding makes of no difference


@dataclass(frozen=True)
class PairedDifference:
    """Second arm minus first, of one score.

    Attributes:
        value: Difference of the means over seeds.
        low: Lower end of its 95 % interval, None where fewer than 20 groups count.
        high: Upper end.
        share_above: Share of resamples in which the second arm is the better one (of scores that
            rise).
    """

    value: float
    low: float | None
    high: float | None
    share_above: float


def paired_differences(
    first: Sequence[Evidence], second: Sequence[Evidence], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, PairedDifference]:
    """Return score -> difference, over the patients of one test set and the runs of two arms.

    Args:
        first: Test evidence of the runs of an arm.
        second: Test evidence of the runs of another arm, on the same images.
        resamples: Bootstrap replicates; each samples the patients once for all runs, and the runs
            of each arm.
        seed: Of the bootstrap.
    """
    scores = first[0].scores
    of_arms, point = [], []
    for number, arm in enumerate((first, second)):
        each = np.array(
            [bootstrap_scores(run, None, resamples, seed) for run in arm]
        )  # runs x scores x R
        once = np.array([bootstrap_scores(run, None, None) for run in arm])[..., 0]
        of_arms.append(resample_runs(each, [seed, number]))  # scores x R
        point.append(once.mean(0))
    return {
        score.name: paired_difference(
            of_arms[0][s],
            of_arms[1][s],
            float(point[1][s] - point[0][s]),
            n_effective_groups(first[0], score),
        )
        for s, score in enumerate(scores)
    }


def bootstrap_scores(
    evidence: Evidence,
    score_names: Collection[str] | None,
    resamples: int | None = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Return each score's bootstrap replicates over patients, `scores x R`; the mean of classes.

    The same seed samples the same patients for every run that was evaluated on the same images.
    `resamples=None` takes the images as they are (R = 1).
    """
    return nanmean_classes(resample_scores(evidence, resamples, seed, score_names))


def resample_runs(run_scores: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """Average over runs in each replicate, which samples as many runs with replacement.

    Args:
        run_scores: `runs x scores x R`.
        seed: Of the sampling of runs.

    Returns:
        `scores x R`.
    """
    runs, resamples = len(run_scores), run_scores.shape[-1]
    picked = np.random.default_rng(seed).integers(runs, size=(runs, resamples))
    return run_scores[picked, :, np.arange(resamples)].mean(0).T


def n_effective_groups(
    evidence: Evidence, score: Metric, classes: Sequence[int] | None = None
) -> int:
    """Count the groups (patients) that a score of some classes, or of all, is made of."""
    if score.over == "all":
        return len(np.unique(evidence.groups))
    wanted = range(len(evidence.classes)) if classes is None else classes
    counting = np.any([score.counts(evidence.decided(c)) for c in wanted], axis=0)
    return len(np.unique(evidence.groups[counting]))


def paired_difference(
    first: np.ndarray, second: np.ndarray, value: float, n_groups: int
) -> PairedDifference:
    """Return the difference of one score from its bootstrap replicates.

    Args:
        first: R values of the first arm, as `bootstrap_scores` gives them.
        second: R values of the second arm, of the same replicates.
        value: On the images as they are, second minus first.
        n_groups: How many count.
    """
    gap = second - first
    gap = gap[np.isfinite(gap)]
    low, high = percentile_interval(gap, n_groups >= MIN_GROUPS)
    return PairedDifference(
        value, low, high, float((gap > TIE_TOLERANCE).mean()) if len(gap) else float("nan")
    )
