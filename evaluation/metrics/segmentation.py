"""Segmentation metrics from histograms: Dice, IoU, precision, recall, average precision."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from evaluation.logit_bins import N_BINS
from evaluation.metrics.base import Metric, precision_of, safe_divide
from evaluation.metrics.classification import N_CALIBRATION_BINS, roc_auc

CHUNK_SIZE = 2048  # images at once: what is made of a histogram is many times as large


def image_chunks(images: int) -> Iterator[slice]:
    """Slices that cover all images."""
    return (slice(start, start + CHUNK_SIZE) for start in range(0, max(1, images), CHUNK_SIZE))


class PixelCounts(NamedTuple):
    """Pixels of each kind; arrays of any one shape."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray


def pixel_counts(counts: np.ndarray, thresholds: np.ndarray) -> PixelCounts:
    """Count pixels of histograms `N x 2 x 256` at T byte thresholds: four arrays `N x T`."""
    above = np.zeros((*counts.shape[:2], N_BINS + 1), np.int64)
    above[..., :N_BINS] = counts[..., ::-1].cumsum(-1, dtype=np.int64)[..., ::-1]
    total = above[..., :1]
    at = above[..., np.asarray(thresholds, int)]
    fp, tp = at[:, 0], at[:, 1]
    return PixelCounts(tp, fp, total[:, 1] - tp, total[:, 0] - fp)


def dice(counts: PixelCounts) -> np.ndarray:
    """Dice, 2 tp / (2 tp + fp + fn); 1 where truth and prediction are both empty (as SIIM-ACR)."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: PixelCounts) -> np.ndarray:
    """IoU, tp / (tp + fp + fn); 1 where truth and prediction are both empty."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def empty_dice(counts: np.ndarray) -> np.ndarray:
    """Dice of an empty prediction, per image of `N x 2 x 256`: 1 if the truth is empty, else 0."""
    return (counts[:, 1].sum(1) == 0).astype(np.float64)


@dataclass(frozen=True)
class SegmentationDecision:
    """One class of an evaluation after the decision: pixel counts per image, and their histogram.

    Attributes:
        pixels: Four arrays of N.
        histogram: `N x 2 x levels`, pixels of each certainty outside and inside the truth.
        ranking: `N`, the highest byte that would still call the image positive at the rule's
            min_area.
        columns: Numbers measured on the masks at the frozen rule, name -> `N`; see
            `MaskMeasurement`. Empty where nothing was measured.
    """

    pixels: PixelCounts
    histogram: np.ndarray
    ranking: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def positive(self) -> np.ndarray:
        """Bool `N`: images that truly show the class."""
        return self.pixels.tp + self.pixels.fn > 0

    @property
    def predicted(self) -> np.ndarray:
        """Bool `N`: images whose predicted mask is not empty."""
        return self.pixels.tp + self.pixels.fp > 0


@dataclass(frozen=True)
class ExclusiveSegmentationDecision(SegmentationDecision):
    """One of several exclusive classes after the argmax, with what all classes share.

    Attributes:
        right: `N`, pixels whose class, the background included, is right.
        total: `N`, pixels that count.
        calibration_gap: `N x bins`, the sum of the probabilities of the predicted classes minus the
            number of correct pixels, in bins of that probability.
    """

    right: np.ndarray = field(kw_only=True)
    total: np.ndarray = field(kw_only=True)
    calibration_gap: np.ndarray = field(kw_only=True)


def apply_rule(counts: np.ndarray, rule: np.ndarray) -> SegmentationDecision:
    """Apply each image's own rule.

    Args:
        counts: `N x 2 x 256` of one class.
        rule: `N x 3`, (top, min_area, bottom).
    """
    parts = [
        _apply_rule_chunk(counts[few].astype(np.int64), rule[few])
        for few in image_chunks(len(counts))
    ]
    *pixels, ranking = (np.concatenate(of_all) for of_all in zip(*parts, strict=True))
    return SegmentationDecision(PixelCounts(*pixels), counts, ranking)


def _apply_rule_chunk(counts: np.ndarray, rule: np.ndarray) -> tuple[np.ndarray, ...]:
    """The four pixel counts and the ranking of a few images."""
    top, min_area, bottom = rule.T
    image = np.arange(len(counts))
    above = counts.sum(1)[:, ::-1].cumsum(1)[:, ::-1]
    above = np.concatenate([above, np.zeros((len(counts), 1), np.int64)], axis=1)
    whole = np.maximum(counts.sum((1, 2)), 1)
    shows = above[image, top.astype(int)] / whole >= min_area
    threshold = np.where(shows, bottom.astype(int), N_BINS)
    inside = np.arange(N_BINS) >= threshold[:, None]
    tp, fp = (counts[:, 1] * inside).sum(1), (counts[:, 0] * inside).sum(1)
    enough = above[:, :N_BINS] >= np.maximum(1, min_area * whole)[:, None]  # falls with the byte
    return tp, fp, counts[:, 1].sum(1) - tp, counts[:, 0].sum(1) - fp, enough.sum(1) - 1


def constant_prediction(counts: np.ndarray, positive: bool) -> SegmentationDecision:
    """Return the trivial prediction of `N x 2 x 256`: everything, or nothing."""
    rest, lesion = counts.sum(2, dtype=np.int64).T
    nothing = np.zeros_like(lesion)
    pixels = (
        PixelCounts(lesion, rest, nothing, nothing)
        if positive
        else PixelCounts(nothing, nothing, lesion, rest)
    )
    return SegmentationDecision(pixels, np.stack([rest, lesion], 1)[..., None], nothing)


SegmentationFunction = Callable[[SegmentationDecision, np.ndarray], np.ndarray]


def _mean_over_images(
    per_image: Callable[[PixelCounts], np.ndarray], lesions_only: bool = False
) -> SegmentationFunction:
    def value(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of weights."""
        kept = weights * decided.positive if lesions_only else weights
        return safe_divide(kept @ per_image(decided.pixels), kept.sum(1))

    return value


def _pooled_over_pixels(
    part: Callable[[PixelCounts], np.ndarray], whole: Callable[[PixelCounts], np.ndarray]
) -> SegmentationFunction:
    def value(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of weights."""
        return safe_divide(weights @ part(decided.pixels), weights @ whole(decided.pixels))

    return value


def _pooled_precision(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
    tp, fp, fn, _ = (weights @ part for part in decided.pixels)
    return precision_of(tp, tp + fp, tp + fn)


def average_precision(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve of all pixels, as in scikit-learn.

    It is the sum of (R_k - R_k-1) P_k.
    """
    images, _, levels = decided.histogram.shape
    pooled = np.zeros((len(weights), 2 * levels))
    for few in image_chunks(images):
        pooled += weights[:, few] @ decided.histogram[few].reshape(-1, 2 * levels)
    rest, lesion = np.split(pooled.reshape(len(weights), 2, levels), 2, axis=1)
    tp, fp = lesion[:, 0, ::-1].cumsum(1), rest[:, 0, ::-1].cumsum(1)
    precision = tp / np.maximum(tp + fp, 1)
    return safe_divide((precision * lesion[:, 0, ::-1]).sum(1), tp[:, -1])


def _correct_image_fraction(positive: bool) -> SegmentationFunction:
    """Make the score: the share of images with (or without) a lesion that are called so."""

    def value(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of weights."""
        kept = weights * (decided.positive if positive else ~decided.positive)
        return safe_divide(kept @ (decided.predicted == positive), kept.sum(1))

    return value


POOLED_DICE = _pooled_over_pixels(lambda c: 2 * c.tp, lambda c: 2 * c.tp + c.fp + c.fn)
POOLED_IOU = _pooled_over_pixels(lambda c: c.tp, lambda c: c.tp + c.fp + c.fn)
SEGMENTATION_METRICS = (
    Metric(
        "dice",
        "mean over images of 2TP/(2TP+FP+FN) of their pixels; if truth and prediction are empty, 1",
        "all",
        _mean_over_images(dice),
    ),
    Metric(
        "dice_lesions",
        "mean of 2TP/(2TP+FP+FN) over the images that show a lesion",
        "positive",
        _mean_over_images(dice, lesions_only=True),
    ),
    Metric(
        "dice_pooled",
        "2TP/(2TP+FP+FN) over the pixels of all images together (= F1 of pixels)",
        "all",
        POOLED_DICE,
    ),
    Metric(
        "iou",
        "mean over images of TP/(TP+FP+FN) of their pixels; if truth and prediction are empty, 1",
        "all",
        _mean_over_images(iou),
    ),
    Metric(
        "iou_lesions",
        "mean of TP/(TP+FP+FN) over the images that show a lesion",
        "positive",
        _mean_over_images(iou, lesions_only=True),
    ),
    Metric("iou_pooled", "TP/(TP+FP+FN) over all pixels together", "all", POOLED_IOU),
    Metric(
        "precision",
        "TP/(TP+FP) over all pixels together; 0 if none is predicted and some are positive",
        "all",
        _pooled_precision,
    ),
    Metric(
        "recall",
        "TP/(TP+FN) over all pixels together",
        "all",
        _pooled_over_pixels(lambda c: c.tp, lambda c: c.tp + c.fn),
    ),
    Metric(
        "f1", "harmonic mean of precision and recall over all pixels together", "all", POOLED_DICE
    ),
    Metric(
        "accuracy",
        "(TP+TN)/(all pixels), over all images together",
        "all",
        _pooled_over_pixels(lambda c: c.tp + c.tn, lambda c: c.tp + c.fp + c.fn + c.tn),
    ),
    Metric(
        "average_precision",
        "area under the precision-recall curve of all pixels together, at 256 thresholds",
        "all",
        average_precision,
        threshold_free=True,
    ),
    Metric(
        "image_auc",
        "probability that an image with a lesion scores higher than one without; its score is the"
        " highest threshold that min_area of it reaches; ties count half",
        "both",
        roc_auc,
        threshold_free=True,
    ),
    Metric(
        "image_sensitivity",
        "share of the images with a lesion in which a mask is predicted",
        "positive",
        _correct_image_fraction(True),
    ),
    Metric(
        "image_specificity",
        "share of the images without a lesion in which no mask is predicted",
        "negative",
        _correct_image_fraction(False),
    ),
)


def _pixel_accuracy(decided: ExclusiveSegmentationDecision, weights: np.ndarray) -> np.ndarray:
    return safe_divide(weights @ decided.right, weights @ decided.total)


def _top_calibration_error(
    decided: ExclusiveSegmentationDecision, weights: np.ndarray
) -> np.ndarray:
    """Expected calibration error of the predicted class's probability (Guo et al. 2017)."""
    gap = np.abs(weights @ decided.calibration_gap).sum(1)
    return safe_divide(gap, weights @ decided.total)


# Bytes of margins rank the pixels of an image, but not by the probability of the class.
RANKING_METRICS = ("average_precision", "image_auc")
EXCLUSIVE_SEGMENTATION_METRICS = (
    *(metric for metric in SEGMENTATION_METRICS if metric.name not in RANKING_METRICS),
    Metric(
        "pixel_accuracy",
        "share of all pixels of all images whose class, the background included, is right; the same"
        " for all classes",
        "all",
        _pixel_accuracy,
        threshold_free=True,
    ),
    Metric(
        "ece",
        "expected calibration error of pixels: mean gap between the probability of the predicted"
        f" class and the share of correct pixels, over {N_CALIBRATION_BINS} equal bins of that"
        " probability; the same for all classes; lower is better",
        "all",
        _top_calibration_error,
        lower_is_better=True,
        threshold_free=True,
        biased_by_sampling=True,
    ),
)
