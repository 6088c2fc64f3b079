"""Scores of decided labels, all of them functions of the images and of how often each counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lightning_modules.score import Score, divide

BINS = 15  # of equal width, of the expected calibration error
EPSILON = 1e-12


@dataclass(frozen=True)
class DecidedLabel:
    """One class of an evaluation after the decision; arrays of N.

    Attributes:
        probability: Of the class.
        ranking: Rises with the probability, but does not saturate.
        positive: Whether the image truly shows it.
        says: Whether the decision says so.
        exact: Whether the decision on every class of the image is right.
    """

    probability: np.ndarray
    ranking: np.ndarray
    positive: np.ndarray
    says: np.ndarray
    exact: np.ndarray


Value = Callable[[DecidedLabel, np.ndarray], np.ndarray]


def counts(d: DecidedLabel, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """True positives, false positives, false negatives, true negatives, `R` each."""
    return (
        weights @ (d.says & d.positive),
        weights @ (d.says & ~d.positive),
        weights @ (~d.says & d.positive),
        weights @ (~d.says & ~d.positive),
    )


def _of_counts(value: Callable[..., np.ndarray]) -> Value:
    return lambda d, weights: value(*counts(d, weights))


def _share(right: Callable[[DecidedLabel], np.ndarray]) -> Value:
    return lambda d, weights: divide(weights @ right(d), weights.sum(1))


class Ranked(Protocol):
    """Images by how sure a prediction is of them."""

    @property
    def positive(self) -> np.ndarray:
        """Bool `N`: which images truly show the class."""

    @property
    def ranking(self) -> np.ndarray:
        """Ranking of `N` images; rises with the certainty."""


def _by_ranking(d: Ranked, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of negatives and of positives at each distinct ranking, ascending.

    Both arrays are `R x distinct`.
    """
    order = np.argsort(d.ranking, kind="stable")
    starts = np.flatnonzero(np.diff(d.ranking[order], prepend=np.nan) != 0)
    ordered, positive = weights[:, order], d.positive[order]
    return np.add.reduceat(ordered * ~positive, starts, axis=1), np.add.reduceat(
        ordered * positive, starts, axis=1
    )


def auc(d: Ranked, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: how often a positive ranks above a negative, ties counting half."""
    if not len(d.positive):
        return np.full(len(weights), np.nan)
    negative, positive = _by_ranking(d, weights)
    below = negative.cumsum(1) - negative
    return divide((positive * (below + negative / 2)).sum(1), positive.sum(1) * negative.sum(1))


def average_precision(d: DecidedLabel, weights: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve as scikit-learn sums it: sum of (R_k - R_k-1) P_k."""
    if not len(d.positive):
        return np.full(len(weights), np.nan)
    negative, positive = (part[:, ::-1] for part in _by_ranking(d, weights))
    tp, fp = positive.cumsum(1), negative.cumsum(1)
    return divide((positive * tp / np.maximum(tp + fp, EPSILON)).sum(1), tp[:, -1])


def calibration_error(d: DecidedLabel, weights: np.ndarray) -> np.ndarray:
    """Expected calibration error (Naeini et al. 2015) of the class's probability."""
    member = np.clip(np.ceil(d.probability * BINS).astype(int) - 1, 0, BINS - 1)
    gap = (d.probability - d.positive)[:, None] * (member[:, None] == np.arange(BINS))
    return divide(np.abs(weights @ gap).sum(1), weights.sum(1))


def negative_log_likelihood(d: DecidedLabel, weights: np.ndarray) -> np.ndarray:
    """Mean of -log of the probability that was given to what is true."""
    given = np.where(d.positive, d.probability, 1 - d.probability)
    return divide(weights @ -np.log(np.maximum(given, EPSILON)), weights.sum(1))


def _balanced(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> np.ndarray:
    return (divide(tp, tp + fn) + divide(tn, tn + fp)) / 2


SCORES = (
    Score(
        "f1",
        "2TP/(2TP+FP+FN), harmonic mean of precision and recall",
        "all",
        _of_counts(lambda tp, fp, fn, tn: divide(2 * tp, 2 * tp + fp + fn)),
    ),
    Score(
        "auc",
        "area under the ROC curve: how often a positive image ranks above a negative one, ties"
        " half",
        "all",
        auc,
    ),
    Score(
        "average_precision",
        "area under the precision-recall curve, sum of (R_k - R_k-1) P_k",
        "all",
        average_precision,
    ),
    Score("accuracy", "(TP+TN)/all images", "all", _share(lambda d: d.says == d.positive)),
    Score(
        "precision",
        "TP/(TP+FP), of the images called positive the share that is",
        "all",
        _of_counts(lambda tp, fp, fn, tn: divide(tp, tp + fp)),
    ),
    Score(
        "recall",
        "TP/(TP+FN), sensitivity",
        "positive",
        _of_counts(lambda tp, fp, fn, tn: divide(tp, tp + fn)),
    ),
    Score(
        "specificity",
        "TN/(TN+FP)",
        "negative",
        _of_counts(lambda tp, fp, fn, tn: divide(tn, tn + fp)),
    ),
    Score("balanced_accuracy", "mean of recall and specificity", "all", _of_counts(_balanced)),
    Score(
        "brier",
        "mean squared difference of probability and label; lower is better",
        "all",
        _share(lambda d: (d.probability - d.positive) ** 2),
    ),
    Score(
        "ece",
        f"mean gap of stated and observed share over {BINS} equal bins of probability; lower is"
        " better",
        "all",
        calibration_error,
    ),
    Score(
        "nll",
        "mean of -log of the probability given to what is true; lower is better",
        "all",
        negative_log_likelihood,
    ),
)
EXACT_MATCH = Score(
    "exact_match",
    "share of images with every class decided right",
    "all",
    _share(lambda d: d.exact),
)
