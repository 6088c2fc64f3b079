"""The difference of two arms on the same images, with its interval: patients, and seeds where there are several, drawn in pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_modules.evidence import Evidence
from lightning_modules.uncertainty import FEWEST_GROUPS, RESAMPLES, over_classes, resampled

TIE = 1e-12  # what rounding makes of no difference


@dataclass(frozen=True)
class Difference:
    """Second arm minus first, of one score.

    Attributes:
        value: Difference of the means over seeds.
        low: Lower end of its 95 % interval, None where fewer than 20 groups count.
        high: Upper end.
        share_above: Share of resamples in which the second arm is the better one (of scores that rise).
    """

    value: float
    low: float | None
    high: float | None
    share_above: float


def differences(first: Sequence[Evidence], second: Sequence[Evidence], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Difference]:
    """Score -> difference, over the patients of one test set and the runs of two arms.

    Args:
        first: Test evidence of the runs of an arm.
        second: Likewise of another, on the same images.
        resamples: Draws; each draws the patients once for all runs, and the runs of each arm.
        seed: Of the draws.
    """
    scores = first[0].scores
    drawn, point = [], []
    for number, arm in enumerate((first, second)):
        each = np.array([over_classes(resampled(run, resamples, seed)) for run in arm])  # runs x scores x R
        once = np.array([over_classes(resampled(run, None)) for run in arm])[..., 0]
        picked = np.random.default_rng([seed, number]).integers(len(arm), size=(len(arm), resamples))
        drawn.append(each[picked, :, np.arange(resamples)].mean(0).T)  # scores x R
        point.append(once.mean(0))
    found = {}
    for s, score in enumerate(scores):
        gap = drawn[1][s] - drawn[0][s]
        gap = gap[np.isfinite(gap)]
        counting = np.any([score.counts(first[0].decided(c)) for c in range(len(first[0].classes))], axis=0)
        enough = len(np.unique(first[0].groups[counting])) >= FEWEST_GROUPS
        low, high = map(float, np.quantile(gap, [0.025, 0.975])) if enough and len(gap) else (None, None)
        found[score.name] = Difference(float(point[1][s] - point[0][s]), low, high, float((gap > TIE).mean()) if len(gap) else float("nan"))
    return found
