"""Scores of decided labels, all of them functions of the images and of how often each counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evaluation.metrics.base import Metric, safe_divide

N_CALIBRATION_BINS = 15  # of equal width, of the expected calibration error
EPSILON = 1e-12


@dataclass(frozen=True)
class ClassificationDecision:
    """One class of an evaluation after the decision; arrays of N.

    Attributes:
        probability: Of the class.
        ranking: Rises with the probability, but does not saturate.
        positive: Whether the image truly shows it.
        predicted: Whether the decision says so.
        exact: Whether the decision on every class of the image is right.
    """

    probability: np.ndarray
    ranking: np.ndarray
    positive: np.ndarray
    predicted: np.ndarray
    exact: np.ndarray


ClassificationFunction = Callable[[ClassificationDecision, np.ndarray], np.ndarray]


def confusion_counts(d: ClassificationDecision, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """True positives, false positives, false negatives, true negatives, `R` each."""
    return (
        weights @ (d.predicted & d.positive),
        weights @ (d.predicted & ~d.positive),
        weights @ (~d.predicted & d.positive),
        weights @ (~d.predicted & ~d.positive),
    )


def _from_counts(value: Callable[..., np.ndarray]) -> ClassificationFunction:
    return lambda d, weights: value(*confusion_counts(d, weights))


def _fraction_of_images(
    is_right: Callable[[ClassificationDecision], np.ndarray],
) -> ClassificationFunction:
    return lambda d, weights: safe_divide(weights @ is_right(d), weights.sum(1))


class RankedLabels(Protocol):
    """Images by how sure a prediction is of them."""

    @property
    def positive(self) -> np.ndarray:
        """Bool `N`: which images truly show the class."""

    @property
    def ranking(self) -> np.ndarray:
        """Ranking of `N` images; rises with the certainty."""


def _from_ranking(d: RankedLabels, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of negatives and of positives at each distinct ranking, ascending.

    Both arrays are `R x distinct`.
    """
    order = np.argsort(d.ranking, kind="stable")
    starts = np.flatnonzero(np.diff(d.ranking[order], prepend=np.nan) != 0)
    ordered, positive = weights[:, order], d.positive[order]
    return np.add.reduceat(ordered * ~positive, starts, axis=1), np.add.reduceat(
        ordered * positive, starts, axis=1
    )


def roc_auc(d: RankedLabels, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: how often a positive ranks above a negative, ties counting half."""
    if not len(d.positive):
        return np.full(len(weights), np.nan)
    negative, positive = _from_ranking(d, weights)
    below = negative.cumsum(1) - negative
    return safe_divide(
        (positive * (below + negative / 2)).sum(1), positive.sum(1) * negative.sum(1)
    )


def label_average_precision(d: ClassificationDecision, weights: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve as scikit-learn sums it: sum of (R_k - R_k-1) P_k."""
    if not len(d.positive):
        return np.full(len(weights), np.nan)
    negative, positive = (part[:, ::-1] for part in _from_ranking(d, weights))
    tp, fp = positive.cumsum(1), negative.cumsum(1)
    return safe_divide((positive * tp / np.maximum(tp + fp, EPSILON)).sum(1), tp[:, -1])


def calibration_error(d: ClassificationDecision, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error (Naeini et al. 2015) of the class's probability."""
    member = np.clip(
        np.ceil(d.probability * N_CALIBRATION_BINS).astype(int) - 1, 0, N_CALIBRATION_BINS - 1
    )
    gap = (d.probability - d.positive)[:, None] * (member[:, None] == np.arange(N_CALIBRATION_BINS))
    return safe_divide(np.abs(weights @ gap).sum(1), weights.sum(1))


def negative_log_likelihood(d: ClassificationDecision, weights: np.ndarray) -> np.ndarray:
    """Mean of -log of the probability that was given to what is true."""
    given = np.where(d.positive, d.probability, 1 - d.probability)
    return safe_divide(weights @ -np.log(np.maximum(given, EPSILON)), weights.sum(1))


def _balanced_accuracy(
    tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray
) -> np.ndarray:
    return (safe_divide(tp, tp + fn) + safe_divide(tn, tn + fp)) / 2


CLASSIFICATION_METRICS = (
    Metric(
        "f1",
        "2TP/(2TP+FP+FN), harmonic mean of precision and recall",
        "all",
        _from_counts(lambda tp, fp, fn, tn: safe_divide(2 * tp, 2 * tp + fp + fn)),
    ),
    Metric(
        "auc",
        "area under the ROC curve: probability that a positive image ranks above a negative one;"
        " ties count half",
        "both",
        roc_auc,
        threshold_free=True,
    ),
    Metric(
        "average_precision",
        "area under the precision-recall curve: sum of (R_k - R_(k-1)) P_k over thresholds k",
        "all",
        label_average_precision,
        threshold_free=True,
    ),
    Metric(
        "accuracy",
        "(TP+TN)/(all images)",
        "all",
        _fraction_of_images(lambda d: d.predicted == d.positive),
    ),
    Metric(
        "precision",
        "TP/(TP+FP), the share of the images predicted positive that are positive",
        "all",
        _from_counts(lambda tp, fp, fn, tn: safe_divide(tp, tp + fp)),
    ),
    Metric(
        "recall",
        "TP/(TP+FN), also called sensitivity",
        "positive",
        _from_counts(lambda tp, fp, fn, tn: safe_divide(tp, tp + fn)),
    ),
    Metric(
        "specificity",
        "TN/(TN+FP)",
        "negative",
        _from_counts(lambda tp, fp, fn, tn: safe_divide(tn, tn + fp)),
    ),
    Metric(
        "balanced_accuracy",
        "mean of recall and specificity",
        "all",
        _from_counts(_balanced_accuracy),
    ),
    Metric(
        "brier",
        "mean squared difference between probability and label; lower is better",
        "all",
        _fraction_of_images(lambda d: (d.probability - d.positive) ** 2),
        lower_is_better=True,
        threshold_free=True,
    ),
    Metric(
        "ece",
        f"expected calibration error: mean gap between predicted and observed share over"
        f" {N_CALIBRATION_BINS} equal bins of probability; lower is better",
        "all",
        calibration_error,
        lower_is_better=True,
        threshold_free=True,
    ),
    Metric(
        "nll",
        "mean of -log of the probability of the true class; lower is better",
        "all",
        negative_log_likelihood,
        lower_is_better=True,
        threshold_free=True,
    ),
)
EXACT_MATCH = Metric(
    "exact_match",
    "share of the images in which the decision is right for every class",
    "all",
    _fraction_of_images(lambda d: d.exact),
)
