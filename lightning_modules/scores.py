"""Decisions become scores, one definition each, all of them functions of per-image counts and weights."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lightning_modules.decision import Decided, PixelCounts, dice, iou
from lightning_modules.logit_byte import LEVELS


@dataclass(frozen=True)
class Score:
    """A score and how it is defined.

    Attributes:
        name: As it stands in report.json.
        definition: One sentence.
        over: Which images count, `all` or `lesion`.
        value: From the decision and weights `R x N` (how often each image counts) to `R` values, NaN where undefined.
    """

    name: str
    definition: str
    over: str
    value: Callable[[Decided, np.ndarray], np.ndarray]

    def images(self, decided: Decided) -> int:
        """How many images the score is made of."""
        return int(decided.lesion.sum()) if self.over == "lesion" else len(decided.lesion)


def _mean_of(measure: Callable[[PixelCounts], np.ndarray], lesions_only: bool = False) -> Callable[[Decided, np.ndarray], np.ndarray]:
    def value(decided: Decided, weights: np.ndarray) -> np.ndarray:
        kept = weights * decided.lesion if lesions_only else weights
        return _divide(kept @ measure(decided.pixels), kept.sum(1))

    return value


def _pooled(part: Callable[[PixelCounts], np.ndarray], whole: Callable[[PixelCounts], np.ndarray]) -> Callable[[Decided, np.ndarray], np.ndarray]:
    def value(decided: Decided, weights: np.ndarray) -> np.ndarray:
        return _divide(weights @ part(decided.pixels), weights @ whole(decided.pixels))

    return value


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def average_precision(decided: Decided, weights: np.ndarray) -> np.ndarray:
    """Area under the pooled pixels' precision-recall curve as scikit-learn sums it: sum of (R_k - R_k-1) P_k."""
    flat = decided.histogram.reshape(len(decided.histogram), -1)
    rest, lesion = np.split((weights @ flat).reshape(len(weights), 2, LEVELS), 2, axis=1)
    tp, fp = lesion[:, 0, ::-1].cumsum(1), rest[:, 0, ::-1].cumsum(1)
    precision = tp / np.maximum(tp + fp, 1)
    return _divide((precision * lesion[:, 0, ::-1]).sum(1), tp[:, -1])


DICE = _pooled(lambda c: 2 * c.tp, lambda c: 2 * c.tp + c.fp + c.fn)
IOU = _pooled(lambda c: c.tp, lambda c: c.tp + c.fp + c.fn)
SCORES = (
    Score("dice", "mean over images of 2TP/(2TP+FP+FN); an empty prediction of an empty truth scores 1", "all", _mean_of(dice)),
    Score("dice_lesions", "the same mean over the images that show a lesion", "lesion", _mean_of(dice, lesions_only=True)),
    Score("dice_pooled", "2TP/(2TP+FP+FN) over the pixels of all images together (= F1 of pixels)", "all", DICE),
    Score("iou", "mean over images of TP/(TP+FP+FN); empty/empty scores 1", "all", _mean_of(iou)),
    Score("iou_lesions", "the same mean over the images that show a lesion", "lesion", _mean_of(iou, lesions_only=True)),
    Score("iou_pooled", "TP/(TP+FP+FN) over all pixels together", "all", IOU),
    Score("precision", "TP/(TP+FP) over all pixels together", "all", _pooled(lambda c: c.tp, lambda c: c.tp + c.fp)),
    Score("recall", "TP/(TP+FN) over all pixels together", "all", _pooled(lambda c: c.tp, lambda c: c.tp + c.fn)),
    Score("f1", "harmonic mean of that precision and recall", "all", DICE),
    Score("accuracy", "(TP+TN)/all pixels", "all", _pooled(lambda c: c.tp + c.tn, lambda c: c.tp + c.fp + c.fn + c.tn)),
    Score("average_precision", "area under the precision-recall curve of all pixels together, at 256 thresholds", "all", average_precision),
)
