"""Cluster bootstrap: intervals of metrics, paired differences of runs, and spread over seeds."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from evaluation.evidence import Evidence, align_measurements
from evaluation.metrics.base import Decision, Metric

MIN_GROUPS = 20  # scores of fewer groups have no interval
N_RESAMPLES = 1000
MAX_BLOCK_NUMBERS = 8_000_000  # numbers in memory at once
CLASS_MEAN = "mean of classes"
TIE_TOLERANCE = 1e-12  # differences up to this size come from rounding


@dataclass(frozen=True)
class Estimate:
    """A score with its uncertainty, and the scores of predictions without skill.

    Attributes:
        value: The score; NaN where it is undefined.
        low: Lower end of the 95 % interval, None where there is none.
        high: Upper end.
        n: Number of images that the score is computed from.
        degenerate: Bootstrap replicates on which it was undefined.
        trivial: Name of a prediction without skill -> the score of that prediction.
        definition: Definition of the score in one sentence.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    degenerate: int
    trivial: dict[str, float]
    definition: str


def bootstrap_weights(
    groups: np.ndarray, resamples: int, seed: int = 0, numbers_per_replicate: int = 0
) -> Iterator[np.ndarray]:
    """Yield how often each image counts in each bootstrap replicate, in blocks `replicates x N`.

    The weights are the same however large the blocks are.

    Args:
        groups: Group (patient) of each image, `N`.
        resamples: Number of bootstrap replicates.
        seed: Seed of the replicates.
        numbers_per_replicate: Numbers that the caller holds for each replicate of a block, where
            they are more than one an image.
    """
    names, member = np.unique(groups, return_inverse=True)
    block = max(1, MAX_BLOCK_NUMBERS // max(1, len(groups), numbers_per_replicate))
    for counts in _group_counts(len(names), resamples, seed, block):
        yield counts[:, member].astype(np.float64)


def _group_counts(groups: int, resamples: int, seed: int, block: int) -> Iterator[np.ndarray]:
    """Sample as many groups as there are, with replacement: counts `replicates x groups`."""
    if groups * resamples <= MAX_BLOCK_NUMBERS:
        counts = _cached_group_counts(groups, resamples, seed)
        yield from (counts[start : start + block] for start in range(0, resamples, block))
        return
    random = np.random.default_rng(seed)
    for start in range(0, resamples, block):
        yield _sample_groups(random, groups, min(block, resamples - start))


@lru_cache(maxsize=2)
def _cached_group_counts(groups: int, resamples: int, seed: int) -> np.ndarray:
    """Sample all replicates at once; cached, as all runs on one test set share them."""
    return _sample_groups(np.random.default_rng(seed), groups, resamples)


def _sample_groups(random: np.random.Generator, groups: int, resamples: int) -> np.ndarray:
    return random.multinomial(groups, np.full(groups, 1 / groups), size=resamples)


def bootstrap_metrics(
    evidence: Evidence, resamples: int = N_RESAMPLES
) -> dict[str, dict[str, Estimate]]:
    """Return class -> score -> estimate with its percentile interval, and the mean of classes.

    The mean is there for several classes only. A score of fewer than 20 groups has no interval.
    """
    classes = range(len(evidence.classes))
    point, replicates = resample_scores(evidence, None), resample_scores(evidence, resamples)
    trivial = [evidence.baselines(c) for c in classes]
    once = np.ones((1, len(evidence)))
    baseline = {
        name: _metric_values(
            evidence.metrics, [predictions[name] for predictions in trivial], once
        )[..., 0]
        for name in trivial[0]
    }
    decided = [evidence.decision(c) for c in classes]
    counting = np.array(
        [[score.counted_images(decision) for score in evidence.metrics] for decision in decided]
    )  # classes x scores x N

    def estimate(c: int | slice) -> dict[str, Estimate]:
        """Return the estimates of one class, or of the mean of the classes."""
        return {
            score.name: _make_estimate(
                score,
                evidence.groups[np.atleast_2d(counting[c, s]).any(0)],
                mean_where_defined(np.atleast_2d(point[c, s])),
                mean_where_defined(np.atleast_2d(replicates[c, s])),
                int(np.atleast_2d(counting[c, s]).any(0).sum()),
                {
                    name: float(mean_where_defined(values[c, s].reshape(-1, 1))[0])
                    for name, values in baseline.items()
                },
            )
            for s, score in enumerate(evidence.metrics)
        }

    found = {name: estimate(c) for c, name in enumerate(evidence.classes)}
    return found | ({CLASS_MEAN: estimate(slice(None))} if len(classes) > 1 else {})


def resample_scores(
    evidence: Evidence, resamples: int | None, seed: int = 0, only: Collection[str] | None = None
) -> np.ndarray:
    """Compute every score of every class, `classes x scores x resamples`.

    Args:
        evidence: Evidence of some images.
        resamples: Number of bootstrap replicates of their groups; None for all images as they are.
        seed: Seed of the replicates.
        only: Names of the scores that are wanted; None wants all.
    """
    scores = tuple(score for score in evidence.metrics if only is None or score.name in only)
    decided = [evidence.decision(c) for c in range(len(evidence.classes))]
    blocks = (
        [np.ones((1, len(evidence)))]
        if resamples is None
        else bootstrap_weights(evidence.groups, resamples, seed)
    )
    return np.concatenate([_metric_values(scores, decided, block) for block in blocks], axis=-1)


def mean_where_defined(values: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Average `classes x ...` over the classes (or runs) on which a score is defined."""
    defined = np.isfinite(values)
    return np.where(
        defined.any(0), np.where(defined, values, 0).sum(0) / np.maximum(1, defined.sum(0)), np.nan
    )


def _metric_values(
    scores: tuple[Metric, ...], decided: list[Decision], weights: np.ndarray
) -> np.ndarray:
    """Return `classes x scores x R`."""
    return np.array([[score.compute(d, weights) for score in scores] for d in decided])


class BootstrapInterval(NamedTuple):
    """95 % percentile interval of a bootstrap.

    Attributes:
        low: Lower end, None where there is no interval.
        high: Upper end.
        degenerate: Bootstrap replicates on which the score was undefined.
    """

    low: float | None
    high: float | None
    degenerate: int


def score_interval(
    score: Metric, value: float, replicates: np.ndarray, n_groups: int
) -> BootstrapInterval:
    """Compute the interval of a score, which contains its value.

    The replicates of a score that grows with sampling noise are moved so that their mean is the
    value. There is no interval if the replicates do not centre on the value otherwise either.

    Args:
        score: The score.
        value: Its value on the images as they are.
        replicates: Its value on each bootstrap replicate, `R`.
        n_groups: Groups (patients) that count for it.
    """
    defined = replicates[np.isfinite(replicates)]
    if score.biased_by_sampling and len(defined) and np.isfinite(value):
        replicates = np.maximum(replicates - (defined.mean() - value), 0)
    low, high, degenerate = percentile_interval(replicates, n_groups)
    if low is None or high is None or not low - TIE_TOLERANCE <= value <= high + TIE_TOLERANCE:
        return BootstrapInterval(None, None, degenerate)
    return BootstrapInterval(low, high, degenerate)


def percentile_interval(replicates: np.ndarray, n_groups: int) -> BootstrapInterval:
    """Compute the interval that holds 95 % of the replicates on which a score is defined.

    There is none for fewer than `MIN_GROUPS` groups, whose replicates count as neither defined nor
    degenerate, and none for a score that is defined on no replicate.

    Args:
        replicates: The score on each bootstrap replicate, `R`.
        n_groups: Groups (patients) that count for the score.
    """
    if n_groups < MIN_GROUPS:
        return BootstrapInterval(None, None, 0)
    defined = replicates[np.isfinite(replicates)]
    degenerate = len(replicates) - len(defined)
    if not len(defined):
        return BootstrapInterval(None, None, degenerate)
    low, high = map(float, np.quantile(defined, [0.025, 0.975]))
    return BootstrapInterval(low, high, degenerate)


def _make_estimate(
    score: Metric,
    groups: np.ndarray,
    point: np.ndarray,
    replicates: np.ndarray,
    n: int,
    trivial: dict[str, float],
) -> Estimate:
    value = float(point[0])
    low, high, degenerate = score_interval(score, value, replicates, len(np.unique(groups)))
    return Estimate(value, low, high, n, degenerate, trivial, score.definition)


def bootstrap_caveat(evidence: Evidence) -> str:
    """State in one sentence what the intervals assume."""
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


@dataclass(frozen=True)
class PairedDifference:
    """Difference of one score between two variants: second minus first.

    Attributes:
        value: Difference of the means over seeds.
        low: Lower end of its 95 % interval, None where fewer than 20 groups count.
        high: Upper end.
        share_above: Share of the bootstrap replicates in which the second variant has the higher
            score.
    """

    value: float
    low: float | None
    high: float | None
    share_above: float


def paired_differences(
    first: Sequence[Evidence],
    second: Sequence[Evidence],
    resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> dict[str, PairedDifference]:
    """Compare two variants on one test set: score -> paired difference.

    Args:
        first: Test evidence of the runs of one variant.
        second: Test evidence of the runs of another variant, on the same images.
        resamples: Bootstrap replicates; each samples the patients once for all runs, and the runs
            of each variant.
        seed: Seed of the bootstrap.
    """
    aligned = align_measurements([*first, *second])
    first, second = aligned[: len(first)], aligned[len(first) :]
    scores = first[0].metrics
    of_variants, point = [], []
    for number, variant in enumerate((first, second)):
        each = np.array(
            [bootstrap_scores(run, None, resamples, seed) for run in variant]
        )  # runs x scores x R
        once = np.array([bootstrap_scores(run, None, None) for run in variant])[..., 0]
        of_variants.append(resample_runs(each, [seed, number]))  # scores x R
        point.append(once.mean(0))
    return {
        score.name: paired_difference(
            of_variants[0][s],
            of_variants[1][s],
            float(point[1][s] - point[0][s]),
            n_effective_groups(first[0], score),
        )
        for s, score in enumerate(scores)
    }


def bootstrap_scores(
    evidence: Evidence,
    score_names: Collection[str] | None,
    resamples: int | None = N_RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Return each score's bootstrap replicates over patients, `scores x R`; the mean of classes.

    The same seed samples the same patients for every run that was evaluated on the same images.
    `resamples=None` takes the images as they are (R = 1).
    """
    return mean_where_defined(resample_scores(evidence, resamples, seed, score_names))


def resample_runs(run_scores: np.ndarray, seed: Sequence[int]) -> np.ndarray:
    """Average over runs in each replicate, which samples as many runs with replacement.

    Args:
        run_scores: `runs x scores x R`.
        seed: Seed of the sampling of runs.

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
    if score.population == "all":
        return len(np.unique(evidence.groups))
    wanted = range(len(evidence.classes)) if classes is None else classes
    counting = np.any([score.counted_images(evidence.decision(c)) for c in wanted], axis=0)
    return len(np.unique(evidence.groups[counting]))


def paired_difference(
    first: np.ndarray, second: np.ndarray, value: float, n_groups: int
) -> PairedDifference:
    """Return the difference of one score from its bootstrap replicates.

    Args:
        first: R values of the first variant, as `bootstrap_scores` gives them; empty if too few
            groups were there to be resampled.
        second: R values of the second variant, from the same replicates.
        value: Difference on the images as they are, second minus first.
        n_groups: Number of groups (patients) that count for the score.
    """
    gap = second - first
    low, high, _ = percentile_interval(gap, n_groups)
    gap = gap[np.isfinite(gap)]
    return PairedDifference(
        value, low, high, float((gap > TIE_TOLERANCE).mean()) if len(gap) else float("nan")
    )


def seed_statistics(
    seed_evidence: Sequence[Evidence], resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Estimate scores over seeds: mean, standard deviation `sd`, and an interval.

    The result maps class -> score -> estimate as in report.json. Each bootstrap replicate resamples
    the patients once for all seeds, and as many seeds with replacement; for one seed it is the
    bootstrap over patients.

    Args:
        seed_evidence: Evidence of each seed, on the same images.
        resamples: Bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    seed_evidence = align_measurements(seed_evidence)
    each = np.array(
        [resample_scores(run, resamples, seed) for run in seed_evidence]
    )  # seeds x classes x scores x R
    once = np.array([resample_scores(run, None) for run in seed_evidence])
    single, found = bootstrap_metrics(seed_evidence[0], 1), {}
    for name, estimates in single.items():
        classes = (
            list(range(len(seed_evidence[0].classes)))
            if name == CLASS_MEAN
            else [seed_evidence[0].classes.index(name)]
        )
        replicates = resample_runs(
            np.array([mean_where_defined(run[classes]) for run in each]), [seed, 0]
        )  # scores x R
        point = np.array([mean_where_defined(run[classes])[:, 0] for run in once])  # seeds x scores
        found[name] = {
            score.name: (
                asdict(estimates[score.name])
                | _seed_estimate(
                    score,
                    point[:, s],
                    replicates[s],
                    n_effective_groups(seed_evidence[0], score, classes),
                )
            )
            for s, score in enumerate(seed_evidence[0].metrics)
        }
    return found


def _seed_estimate(
    score: Metric, seed_scores: np.ndarray, replicates: np.ndarray, n_groups: int
) -> dict[str, Any]:
    value = float(seed_scores.mean())
    return {
        "value": value,
        **score_interval(score, value, replicates, n_groups)._asdict(),
        "sd": float(seed_scores.std(ddof=1)) if len(seed_scores) > 1 else None,
    }


def seed_caveat(seed_evidence: Sequence[Evidence], unit: str = "seeds") -> str:
    """State in one sentence what the intervals assume.

    Args:
        seed_evidence: Evidence of each fit, on the same images.
        unit: Word for what the fits differ in.
    """
    if len(seed_evidence) == 1:
        return bootstrap_caveat(seed_evidence[0])
    if len(np.unique(seed_evidence[0].groups)) < MIN_GROUPS:
        return f"means of {len(seed_evidence)} {unit}; {bootstrap_caveat(seed_evidence[0])}"
    few = f", but {len(seed_evidence)} {unit} are few" if len(seed_evidence) < 5 else ""
    return (
        f"means of {len(seed_evidence)} {unit}; {bootstrap_caveat(seed_evidence[0])}; each"
        f" bootstrap replicate also resamples the {unit}{few}"
    )
