"""Bootstrap intervals of every score; groups (patients) are sampled with replacement."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lightning_modules.evidence import Evidence
from lightning_modules.score import Decision, Metric

MIN_GROUPS = 20
RESAMPLES = 1000
BLOCK = 8_000_000  # weights that are held at once
MEAN = "mean of classes"


@dataclass(frozen=True)
class Estimate:
    """A score with its uncertainty and what no skill would score.

    Attributes:
        value: The score; NaN where it is undefined.
        low: Lower end of the 95 % interval, None where there is none.
        high: Upper end.
        n: Images it is made of.
        degenerate: Bootstrap replicates on which it was undefined.
        trivial: Name of a prediction without skill -> its score.
        definition: One sentence.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    degenerate: int
    trivial: dict[str, float]
    definition: str


def group_weights(groups: np.ndarray, resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield how often each image counts in each bootstrap replicate, in blocks `replicates x N`.

    The numbers are the same however large the blocks are.
    """
    names, member = np.unique(groups, return_inverse=True)
    most = max(1, BLOCK // max(1, len(groups)))
    if resamples <= most:
        yield resample_counts(len(names), resamples, seed)[:, member].astype(np.float64)
        return
    random = np.random.default_rng(seed)
    for start in range(0, resamples, most):
        yield _draw_multinomial(random, len(names), min(most, resamples - start))[:, member].astype(
            np.float64
        )


@lru_cache(maxsize=2)
def resample_counts(groups: int, resamples: int, seed: int) -> np.ndarray:
    """Count each group in each replicate; cached, as all runs on one test set share the counts."""
    return _draw_multinomial(np.random.default_rng(seed), groups, resamples)


def _draw_multinomial(random: np.random.Generator, groups: int, resamples: int) -> np.ndarray:
    return random.multinomial(groups, np.full(groups, 1 / groups), size=resamples)


def bootstrap_metrics(
    evidence: Evidence, resamples: int = RESAMPLES
) -> dict[str, dict[str, Estimate]]:
    """Return class -> score -> estimate with its percentile interval, and the mean of classes.

    The mean is there for several classes only. No interval where fewer than 20 groups count.
    """
    classes = range(len(evidence.classes))
    point, drawn = resample_scores(evidence, None), resample_scores(evidence, resamples)
    trivial = [evidence.baselines(c) for c in classes]
    once = np.ones((1, len(evidence)))
    baseline = {
        name: _metric_values(evidence.scores, [of_class[name] for of_class in trivial], once)[
            ..., 0
        ]
        for name in trivial[0]
    }
    decided = [evidence.decided(c) for c in classes]
    counting = np.array(
        [[score.counts(of_class) for score in evidence.scores] for of_class in decided]
    )  # classes x scores x N

    def of_class(c: int | slice) -> dict[str, Estimate]:
        return {
            score.name: _make_estimate(
                score,
                evidence.groups[np.atleast_2d(counting[c, s]).any(0)],
                nanmean_classes(np.atleast_2d(point[c, s])),
                nanmean_classes(np.atleast_2d(drawn[c, s])),
                int(np.atleast_2d(counting[c, s]).any(0).sum()),
                {
                    name: float(nanmean_classes(values[c, s].reshape(-1, 1))[0])
                    for name, values in baseline.items()
                },
            )
            for s, score in enumerate(evidence.scores)
        }

    found = {name: of_class(c) for c, name in enumerate(evidence.classes)}
    return found | ({MEAN: of_class(slice(None))} if len(classes) > 1 else {})


def resample_scores(
    evidence: Evidence, resamples: int | None, seed: int = 0, only: Collection[str] | None = None
) -> np.ndarray:
    """Compute every score of every class, `classes x scores x resamples`.

    Args:
        evidence: Of some images.
        resamples: Number of bootstrap replicates of their groups; None for all images as they are.
        seed: Seed of the replicates.
        only: Names of the scores that are wanted; None wants all.
    """
    scores = tuple(score for score in evidence.scores if only is None or score.name in only)
    decided = [evidence.decided(c) for c in range(len(evidence.classes))]
    blocks = (
        [np.ones((1, len(evidence)))]
        if resamples is None
        else group_weights(evidence.groups, resamples, seed)
    )
    return np.concatenate([_metric_values(scores, decided, block) for block in blocks], axis=-1)


def nanmean_classes(values: np.ndarray) -> np.ndarray:
    """Average `classes x ...` over the classes on which a score is defined."""
    defined = np.isfinite(values)
    return np.where(
        defined.any(0), np.where(defined, values, 0).sum(0) / np.maximum(1, defined.sum(0)), np.nan
    )


def _metric_values(
    scores: tuple[Metric, ...], decided: list[Decision], weights: np.ndarray
) -> np.ndarray:
    """`classes x scores x R`."""
    return np.array([[score.value(d, weights) for score in scores] for d in decided])


def percentile_interval(draws: np.ndarray, enough: bool) -> tuple[float | None, float | None]:
    """Return the ends of 95 % of the replicates on which a score is defined.

    They are None where it is defined on none, or there are not `enough` groups.
    """
    defined = draws[np.isfinite(draws)]
    if not enough or not len(defined):
        return None, None
    low, high = map(float, np.quantile(defined, [0.025, 0.975]))
    return low, high


def _make_estimate(
    score: Metric,
    groups: np.ndarray,
    point: np.ndarray,
    drawn: np.ndarray,
    n: int,
    trivial: dict[str, float],
) -> Estimate:
    enough = len(np.unique(groups)) >= MIN_GROUPS
    low, high = percentile_interval(drawn, enough)
    degenerate = int(np.isnan(drawn).sum()) if enough else 0
    return Estimate(float(point[0]), low, high, n, degenerate, trivial, score.definition)


def bootstrap_caveat(evidence: Evidence) -> str:
    """Say in one sentence what the intervals assume."""
    groups = len(np.unique(evidence.groups))
    if groups < MIN_GROUPS:
        return f"no intervals: {groups} groups are fewer than {MIN_GROUPS}"
    if evidence.group_is == "patient":
        return f"95 % bootstrap intervals over {groups} patients"
    distinct = "" if groups == len(evidence) else "different "  # exact copies are sampled together
    return (
        f"95 % bootstrap intervals over {groups} {distinct}images; patients are unknown, so this"
        " assumes independent images"
    )
