"""Bootstrap intervals: groups (patients) are drawn with replacement, and every score is computed on each draw."""

from dataclasses import dataclass

import numpy as np

from lightning_modules.decision import Decided, decide, predict_all
from lightning_modules.evidence import Evidence
from lightning_modules.scores import SCORES, Score

FEWEST_GROUPS = 20
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A score with its uncertainty and what no skill would score.

    Attributes:
        value: The score; NaN where it is undefined.
        low: Lower end of the 95 % interval, None where there is none.
        high: Upper end.
        n: Images it is made of.
        degenerate: Resamples on which it was undefined.
        all_empty: The score of predicting nothing.
        all_positive: The score of predicting everything.
        definition: One sentence.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    degenerate: int
    all_empty: float
    all_positive: float
    definition: str


def group_weights(groups: np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """How often each image counts in each resample of the groups: `resamples x N`."""
    names, member = np.unique(groups, return_inverse=True)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return drawn[:, member].astype(np.float64)


def estimates(evidence: Evidence, channel: int, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Every score of one class with its percentile interval; no interval where fewer than 20 groups count."""
    decided = decide(evidence, channel)
    empty, full = predict_all(evidence, channel, positive=False), predict_all(evidence, channel, positive=True)
    weights = group_weights(evidence.groups, resamples)

    def enough(score: Score) -> bool:
        counted = evidence.groups[decided.lesion] if score.over == "lesion" else evidence.groups
        return len(np.unique(counted)) >= FEWEST_GROUPS

    return {score.name: _estimate(score, decided, empty, full, weights if enough(score) else None) for score in SCORES}


def _estimate(score: Score, decided: Decided, empty: Decided, full: Decided, weights: np.ndarray | None) -> Estimate:
    once = np.ones((1, len(decided.lesion)))
    low = high = None
    degenerate = 0
    if weights is not None:
        values = score.value(decided, weights)
        degenerate = int(np.isnan(values).sum())
        if degenerate < len(values):
            low, high = map(float, np.nanquantile(values, [0.025, 0.975]))
    return Estimate(
        value=float(score.value(decided, once)[0]),
        low=low,
        high=high,
        n=score.images(decided),
        degenerate=degenerate,
        all_empty=float(score.value(empty, once)[0]),
        all_positive=float(score.value(full, once)[0]),
        definition=score.definition,
    )


def caveat(evidence: Evidence) -> str:
    """What the intervals assume, in one sentence."""
    groups = len(np.unique(evidence.groups))
    if groups < FEWEST_GROUPS:
        return f"no intervals: {groups} groups are fewer than {FEWEST_GROUPS}"
    if evidence.group_is == "patient":
        return f"95 % bootstrap intervals over {groups} patients"
    return f"95 % bootstrap intervals over {groups} images; patients are unknown, so this assumes independent images"
