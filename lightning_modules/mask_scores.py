"""Scores of decided masks, all of them functions of per-image pixel counts and weights."""

from collections.abc import Callable

import numpy as np

from lightning_modules.label_scores import auc
from lightning_modules.mask_decision import PixelCounts, SegmentationDecision, chunks, dice, iou
from lightning_modules.score import Metric, safe_divide

SegmentationFunction = Callable[[SegmentationDecision, np.ndarray], np.ndarray]


def _mean_over_images(
    measure: Callable[[PixelCounts], np.ndarray], lesions_only: bool = False
) -> SegmentationFunction:
    def value(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
        kept = weights * decided.positive if lesions_only else weights
        return safe_divide(kept @ measure(decided.pixels), kept.sum(1))

    return value


def _pooled_over_pixels(
    part: Callable[[PixelCounts], np.ndarray], whole: Callable[[PixelCounts], np.ndarray]
) -> SegmentationFunction:
    def value(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
        return safe_divide(weights @ part(decided.pixels), weights @ whole(decided.pixels))

    return value


def average_precision(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve of all pixels, as in scikit-learn.

    It is the sum of (R_k - R_k-1) P_k.
    """
    images, _, levels = decided.histogram.shape
    pooled = np.zeros((len(weights), 2 * levels))
    for few in chunks(images):
        pooled += weights[:, few] @ decided.histogram[few].reshape(-1, 2 * levels)
    rest, lesion = np.split(pooled.reshape(len(weights), 2, levels), 2, axis=1)
    tp, fp = lesion[:, 0, ::-1].cumsum(1), rest[:, 0, ::-1].cumsum(1)
    precision = tp / np.maximum(tp + fp, 1)
    return safe_divide((precision * lesion[:, 0, ::-1]).sum(1), tp[:, -1])


def _positive_fraction(right: bool) -> SegmentationFunction:
    """Make the score: the share of images with (or without) a lesion that are called so."""

    def value(decided: SegmentationDecision, weights: np.ndarray) -> np.ndarray:
        kept = weights * (decided.positive if right else ~decided.positive)
        return safe_divide(kept @ (decided.predicted == right), kept.sum(1))

    return value


DICE = _pooled_over_pixels(lambda c: 2 * c.tp, lambda c: 2 * c.tp + c.fp + c.fn)
IOU = _pooled_over_pixels(lambda c: c.tp, lambda c: c.tp + c.fp + c.fn)
SEGMENTATION_METRICS = (
    Metric(
        "dice",
        "mean over images of 2TP/(2TP+FP+FN); an empty prediction of an empty truth scores 1",
        "all",
        _mean_over_images(dice),
    ),
    Metric(
        "dice_lesions",
        "the same mean over the images that show a lesion",
        "positive",
        _mean_over_images(dice, lesions_only=True),
    ),
    Metric(
        "dice_pooled",
        "2TP/(2TP+FP+FN) over the pixels of all images together (= F1 of pixels)",
        "all",
        DICE,
    ),
    Metric(
        "iou",
        "mean over images of TP/(TP+FP+FN); empty/empty scores 1",
        "all",
        _mean_over_images(iou),
    ),
    Metric(
        "iou_lesions",
        "the same mean over the images that show a lesion",
        "positive",
        _mean_over_images(iou, lesions_only=True),
    ),
    Metric("iou_pooled", "TP/(TP+FP+FN) over all pixels together", "all", IOU),
    Metric(
        "precision",
        "TP/(TP+FP) over all pixels together",
        "all",
        _pooled_over_pixels(lambda c: c.tp, lambda c: c.tp + c.fp),
    ),
    Metric(
        "recall",
        "TP/(TP+FN) over all pixels together",
        "all",
        _pooled_over_pixels(lambda c: c.tp, lambda c: c.tp + c.fn),
    ),
    Metric("f1", "harmonic mean of that precision and recall", "all", DICE),
    Metric(
        "accuracy",
        "(TP+TN)/all pixels",
        "all",
        _pooled_over_pixels(lambda c: c.tp + c.tn, lambda c: c.tp + c.fp + c.fn + c.tn),
    ),
    Metric(
        "average_precision",
        "area under the precision-recall curve of all pixels together, at 256 thresholds",
        "all",
        average_precision,
    ),
    Metric(
        "image_auc",
        "how often an image with a lesion ranks above one without, by the byte that min_area of it"
        " reaches; ties half",
        "all",
        auc,
    ),
    Metric(
        "image_sensitivity",
        "share of images with a lesion for which a mask is drawn",
        "positive",
        _positive_fraction(True),
    ),
    Metric(
        "image_specificity",
        "share of images without a lesion for which none is drawn",
        "negative",
        _positive_fraction(False),
    ),
)
