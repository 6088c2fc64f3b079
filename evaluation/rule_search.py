"""Search for decision rules on val: thresholds of masks and labels, temperature."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from evaluation.evidence import SegmentationEvidence
from evaluation.logit_bins import HALF_BIN, N_BINS, bin_of
from evaluation.metrics.segmentation import dice, empty_dice, image_chunks, pixel_counts
from evaluation.threshold_objective import ThresholdObjective


def fit_temperature(logits: np.ndarray, truth: np.ndarray, exclusive: bool) -> float:
    """Find the divisor of logits, .05 to 20, with the highest likelihood (Guo et al. 2017).

    Args:
        logits: `N` for one class, or `N x C` for exclusive classes.
        truth: 0 or 1, of the same shape.
        exclusive: True for a softmax over classes instead of a sigmoid.
    """
    logits, truth = logits.astype(np.float64), truth.astype(np.float64)
    if (truth == truth[:1]).all():
        return 1.0  # with only one label the likelihood has no maximum

    def negative_log_likelihood(log_temperature: float) -> float:
        """Return the mean negative log-likelihood at a temperature."""
        scaled = logits / np.exp(log_temperature)
        if exclusive:
            return float(-(truth * log_softmax(scaled, axis=1)).sum(1).mean())
        return float(-(truth * log_expit(scaled) + (1 - truth) * log_expit(-scaled)).mean())

    return float(
        np.exp(
            minimize_scalar(
                negative_log_likelihood, bounds=(np.log(0.05), np.log(20)), method="bounded"
            ).x
        )
    )


CLASSIFICATION_TIE = 1e-9


@dataclass(frozen=True)
class ClassificationRuleResult:
    """Best threshold of one class.

    Attributes:
        threshold: Threshold of the probability.
        score: Objective at the threshold.
        score_at_half: Objective at .5.
        no_better_than_constant: True if a constant prediction scores as well.
        unmet_bound: Reason why the bounds could not be satisfied, or None.
        skip_reason: Reason why there was no search, or None.
        at_bound: True if the threshold is an end of its range, beyond which a better one may be.
    """

    threshold: float
    score: float
    score_at_half: float
    no_better_than_constant: bool
    unmet_bound: str | None
    skip_reason: str | None = None
    at_bound: bool = False


def search_classification_rule(
    probability: np.ndarray, truth: np.ndarray, goal: ThresholdObjective
) -> ClassificationRuleResult:
    """Find the best of all thresholds that decide differently; ties take the plateau's middle.

    Args:
        probability: Probabilities, `N`.
        truth: Labels, bool `N`.
        goal: Objective to maximize and bounds to satisfy; if the bounds cannot be satisfied, the
            threshold that comes closest is returned.
    """
    if truth.all() or not truth.any():
        return ClassificationRuleResult(
            0.5,
            float("nan"),
            float("nan"),
            False,
            None,
            "val has only one label, so there is nothing to search on",
        )
    thresholds = _candidate_thresholds(probability, goal.threshold_range)
    measured = _threshold_metrics(probability, truth, thresholds)
    values, kept, missed = measured[goal.objective], np.ones(len(thresholds), bool), None
    for number, (name, least) in enumerate(goal.min_metrics.items()):
        now = kept & (measured[name] >= least - CLASSIFICATION_TIE)
        if not now.any():
            missed = _unmet_bounds(goal, number, float(measured[name][kept].max()))
            now = kept & (measured[name] >= measured[name][kept].max() - CLASSIFICATION_TIE)
        kept = now
    best = np.flatnonzero(kept & (values >= values[kept].max() - CLASSIFICATION_TIE))
    chosen = best[np.abs(best - np.median(best)).argmin()]
    at_half = float(_threshold_metrics(probability, truth, np.array([0.5]))[goal.objective][0])
    judge = (
        "youden" if goal.objective in ("sensitivity", "specificity") else goal.objective
    )  # a constant prediction maximizes either one by itself
    always = _threshold_metrics(probability, truth, np.array([0.0, 2.0]))[judge].max()
    return ClassificationRuleResult(
        float(thresholds[chosen]),
        float(values[chosen]),
        at_half,
        bool(measured[judge][chosen] <= always + CLASSIFICATION_TIE),
        missed,
        at_bound=_is_at_bound(float(thresholds[chosen]), goal.threshold_range),
    )


def _is_at_bound(threshold: float, threshold_range: Sequence[float]) -> bool:
    """Return True if a threshold is an end of a narrowed range that was searched."""
    low, high = threshold_range
    return low < high and ((threshold == low > 0) or (threshold == high < 1))


def metrics_at_threshold(
    probability: np.ndarray, truth: np.ndarray, threshold: float
) -> dict[str, float]:
    """Compute f1, youden, accuracy, sensitivity, specificity and precision at one threshold.

    Both arrays are `N`, of one class; `truth` is bool.
    """
    return {
        name: float(value[0])
        for name, value in _threshold_metrics(probability, truth, np.array([threshold])).items()
    }


def _unmet_bounds(goal: ThresholdObjective, number: int, best: float) -> str:
    bounds = [f"{name} >= {least:g}" for name, least in goal.min_metrics.items()]
    others = f" beside {' and '.join(bounds[:number])}" if number else ""
    low, high = goal.threshold_range
    return (
        f"no threshold from {low:g} to {high:g} reaches {bounds[number]}{others} on val; the best"
        f" reachable is {best:.4f}"
    )


def _candidate_thresholds(probability: np.ndarray, threshold_range: Sequence[float]) -> np.ndarray:
    """Return descending thresholds between neighbouring probabilities and on both sides of them.

    With `threshold_range`, these are the thresholds inside it and its two ends.
    """
    distinct = np.unique(probability)[::-1]
    middles = (np.concatenate([[1.0], distinct]) + np.concatenate([distinct, [0.0]])) / 2
    inside = middles[(middles >= threshold_range[0]) & (middles <= threshold_range[1])]
    return (
        np.unique(np.concatenate([inside, threshold_range]))[::-1]
        if tuple(threshold_range) != (0.0, 1.0)
        else middles
    )


def _threshold_metrics(
    probability: np.ndarray, truth: np.ndarray, thresholds: np.ndarray
) -> dict[str, np.ndarray]:
    positive, negative = np.sort(probability[truth]), np.sort(probability[~truth])
    tp = len(positive) - np.searchsorted(positive, thresholds)
    fp = len(negative) - np.searchsorted(negative, thresholds)
    sensitivity, specificity = tp / max(1, len(positive)), 1 - fp / max(1, len(negative))
    return {
        "f1": 2 * tp / np.maximum(1, tp + fp + len(positive)),
        "youden": sensitivity + specificity - 1,
        "accuracy": (tp + len(negative) - fp) / max(1, len(truth)),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": tp / np.maximum(1, tp + fp),
    }


SEGMENTATION_TIE = 1e-9


@dataclass(frozen=True)
class RuleGrid:
    """Grid of the rules to try.

    Attributes:
        top: Byte thresholds of certain pixels; None makes top = bottom.
        min_area: Smallest fractions of the image that must be certain.
        bottom: Byte thresholds of the mask.
    """

    top: np.ndarray | None
    min_area: np.ndarray
    bottom: np.ndarray

    @classmethod
    def from_ranges(
        cls,
        bottom: Sequence[float],
        top: Sequence[float] | None = None,
        min_area: Sequence[float] = (0.0,),
    ) -> "RuleGrid":
        """Make the grid of all bytes in probability ranges [lowest, highest] and of some areas."""
        return cls(
            None if top is None else _threshold_bins(top),
            np.asarray(min_area, float),
            _threshold_bins(bottom),
        )


def _threshold_bins(probability_range: Sequence[float]) -> np.ndarray:
    return np.arange(
        bin_of(probability_range[0]), min(N_BINS - 1, bin_of(probability_range[-1])) + 1
    )


@dataclass(frozen=True)
class SegmentationRuleResult:
    """Best rule of one class.

    Attributes:
        rule: (top, min_area, bottom), bytes and a fraction.
        score: Mean Dice at the rule.
        score_at_half: Mean Dice at a plain threshold of .5.
        no_better_than_empty: True if predicting nothing scores as well.
        at_bound: Part of the rule (`top`, `min_area` or `bottom`) whose best values reach an end of
            its range, beyond which better ones may be; None if there is none.
    """

    rule: tuple[float, float, float]
    score: float
    score_at_half: float
    no_better_than_empty: bool
    at_bound: str | None = None


def search_segmentation_rule(
    evidence: SegmentationEvidence, grid: RuleGrid, lesions_only: bool = False
) -> list[SegmentationRuleResult]:
    """Find the best rule of each class.

    Args:
        evidence: Evidence of the images to search on; never test.
        grid: The rules to try.
        lesions_only: True to maximize the mean Dice over images with a lesion, as multi-label data
            needs; otherwise, and if no image shows the class, the mean over all images, with a Dice
            of 1 if truth and prediction are both empty.
    """
    return [
        _search_class_rule(evidence.counts[:, c], grid, lesions_only)
        for c in range(len(evidence.classes))
    ]


def _search_class_rule(
    counts: np.ndarray, grid: RuleGrid, lesions_only: bool
) -> SegmentationRuleResult:
    scores, tops = rule_scores(counts, grid, lesions_only)
    best = np.argwhere(scores >= scores.max() - SEGMENTATION_TIE)
    middle = np.median(best, axis=0)
    t, a, b = best[np.abs(best - middle).sum(1).argmin()]  # ties: the middle of the plateau
    top = grid.bottom[b] if tops is None else tops[t]
    half, _ = rule_scores(counts, RuleGrid(None, np.zeros(1), np.array([HALF_BIN])), lesions_only)
    nothing = float(_mean_over_counted(empty_dice(counts)[:, None], counts, lesions_only)[0])
    rule = float(top), float(grid.min_area[a]), float(grid.bottom[b])
    return SegmentationRuleResult(
        rule,
        float(scores[t, a, b]),
        float(half[0, 0, 0]),
        bool(scores.max() <= nothing + SEGMENTATION_TIE),
        _part_at_bound(grid, best, int(a)),
    )


def _part_at_bound(grid: RuleGrid, best: np.ndarray, area: int) -> str | None:
    """Return the part of the best rules that reaches an end of a narrowed range.

    Args:
        grid: The rules that were tried.
        best: Indices (top, area, bottom) of all rules with the best score, `rules x 3`.
        area: Index of the chosen area.
    """
    for name, bins, indices in (("bottom", grid.bottom, best[:, 2]), ("top", grid.top, best[:, 0])):
        if bins is None or len(bins) < 2:
            continue  # one value was chosen, not searched
        first, last = indices.min() == 0, indices.max() == len(bins) - 1
        if (first and bins[0] > 0) or (last and bins[-1] < N_BINS - 1):
            return name
    return "min_area" if area == len(grid.min_area) - 1 > 0 else None


def rule_scores(
    counts: np.ndarray, grid: RuleGrid, lesions_only: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the mean Dice of every rule, `tops x areas x bottoms`, and the tops.

    If the grid sets top = bottom, there is one top, and None is returned for the tops.

    Args:
        counts: Histograms of one class, `N x 2 x 256`.
        grid: Rules to evaluate.
        lesions_only: As in `search_segmentation_rule`.
    """
    lesion = counts[:, 1].sum(1) > 0
    if lesions_only and lesion.any():
        counts = counts[lesion]
    sums = np.sum([_sum_dice(counts[few], grid) for few in image_chunks(len(counts))], axis=0)
    return sums / max(1, len(counts)), grid.top


def _sum_dice(counts: np.ndarray, grid: RuleGrid) -> np.ndarray:
    """Return the Dice of every rule, summed over some images; `tops x areas x bottoms`."""
    drawn = dice(pixel_counts(counts, grid.bottom))  # N x B
    empty = empty_dice(counts)  # N
    above = (
        counts.sum(1)[:, ::-1].cumsum(1)[:, ::-1] / np.maximum(counts.sum((1, 2)), 1)[:, None]
    )  # N x 256, fraction of pixels >= byte
    if grid.top is None:
        shows = above[:, grid.bottom][:, None, :] >= grid.min_area[None, :, None]  # N x A x B
        return np.where(shows, drawn[:, None, :], empty[:, None, None]).sum(0)[None]
    shows = (
        (above[:, grid.top][:, :, None] >= grid.min_area)
        .reshape(len(counts), -1)
        .astype(np.float64)
    )  # N x TA
    gain = shows.T @ (drawn - empty[:, None])
    return (gain + empty.sum()).reshape(len(grid.top), len(grid.min_area), len(grid.bottom))


def _mean_over_counted(values: np.ndarray, counts: np.ndarray, lesions_only: bool) -> np.ndarray:
    lesion = counts[:, 1].sum(1) > 0
    return values[lesion if lesions_only and lesion.any() else slice(None)].mean(0)
