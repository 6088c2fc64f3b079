"""Scores of decided labels, all of them functions of the images and of how often each counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evaluation.metrics.base import Metric, precision_of, safe_divide

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


@dataclass(frozen=True, kw_only=True)
class ExclusiveClassificationDecision(ClassificationDecision):
    """One of several exclusive classes, with what all classes of an image share; arrays of N.

    Attributes:
        confidence: Probability of the predicted class.
        given: Probability that was given to the true class.
        squared_error: Sum over classes of the squared difference of probability and label.
    """

    confidence: np.ndarray
    given: np.ndarray
    squared_error: np.ndarray


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
    return _calibration_error(d.probability, d.positive, weights)


def top_calibration_error(d: ExclusiveClassificationDecision, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error of the predicted class's probability (Guo et al. 2017)."""
    return _calibration_error(d.confidence, d.exact, weights)


def _calibration_error(
    probability: np.ndarray, right: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    member = np.clip(
        np.ceil(probability * N_CALIBRATION_BINS).astype(int) - 1, 0, N_CALIBRATION_BINS - 1
    )
    gap = (probability - right)[:, None] * (member[:, None] == np.arange(N_CALIBRATION_BINS))
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
        "TP/(TP+FP), the share of the images predicted positive that are positive; 0 if none is"
        " predicted positive and some are",
        "all",
        _from_counts(lambda tp, fp, fn, tn: precision_of(tp, tp + fp, tp + fn)),
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
        biased_by_sampling=True,
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

JOINT = "; the same for all classes"
_JOINT_METRICS = {  # scores of exclusive classes that are not those of one class against the rest
    "accuracy": Metric(
        "accuracy",
        f"share of the images whose most probable class is the true one{JOINT}",
        "all",
        _fraction_of_images(lambda d: d.exact),
        threshold_free=True,
    ),
    "balanced_accuracy": Metric(
        "balanced_accuracy",
        "recall; the mean of the classes is the balanced accuracy of scikit-learn",
        "positive",
        _from_counts(lambda tp, fp, fn, tn: safe_divide(tp, tp + fn)),
    ),
    "brier": Metric(
        "brier",
        "mean over images of the sum over classes of (probability - label)^2; lower is better"
        f"{JOINT}",
        "all",
        _fraction_of_images(lambda d: d.squared_error),  # type: ignore[attr-defined]
        lower_is_better=True,
        threshold_free=True,
    ),
    "ece": Metric(
        "ece",
        "expected calibration error: mean gap between the probability of the predicted class and"
        f" the share of right images, over {N_CALIBRATION_BINS} equal bins; lower is better{JOINT}",
        "all",
        top_calibration_error,
        lower_is_better=True,
        threshold_free=True,
        biased_by_sampling=True,
    ),
    "nll": Metric(
        "nll",
        f"mean of -log of the probability of the true class; lower is better{JOINT}",
        "all",
        lambda d, weights: safe_divide(
            weights @ -np.log(np.maximum(d.given, EPSILON)), weights.sum(1)
        ),
        lower_is_better=True,
        threshold_free=True,
    ),
}
EXCLUSIVE_CLASSIFICATION_METRICS = tuple(
    _JOINT_METRICS.get(metric.name, metric) for metric in CLASSIFICATION_METRICS
)
