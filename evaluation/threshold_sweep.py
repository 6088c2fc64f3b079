"""Sweep of all metrics over all 256 thresholds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from evaluation.bootstrap import mean_where_defined
from evaluation.evidence import ClassificationEvidence, Evidence, SegmentationEvidence
from evaluation.logit_bins import N_BINS, bin_probability
from evaluation.metrics.base import Decision, Metric, safe_divide
from evaluation.metrics.classification import ClassificationDecision
from evaluation.metrics.segmentation import (
    PixelCounts,
    SegmentationDecision,
    average_precision,
    dice,
    image_chunks,
    pixel_counts,
)

THRESHOLD_BLOCK = 32  # thresholds whose pixel counts are held at once
OWN_RULE_NOTE = "each image has the decision rule of its own fold"
FOLD_RULES_NOTE = (
    "At first, each image has the decision rule of its own fold; the slider sets one threshold for"
    " all images."
)
TWO_THRESHOLDS_NOTE = (
    "The decision rule has two thresholds, one for whether the image shows the class and one for"
    " the pixels of the mask; the slider sets both."
)


class SliderStart(NamedTuple):
    """Position of a slider at the rule in force.

    Attributes:
        byte: Nearest threshold.
        words: Description of the rule.
        plain: True if the rule decides exactly like this threshold.
        note: A further remark on the rule.
    """

    byte: int
    words: str
    plain: bool
    note: str = ""


def segmentation_at_thresholds(
    evidence: SegmentationEvidence, channel: int
) -> Iterator[SegmentationDecision]:
    """Yield the decision for each byte as the rule's top and bottom; min_area is kept."""
    counts, min_area = evidence.counts[:, channel], evidence.rule[:, channel, 1]
    whole, ranking = (
        np.maximum(counts.sum((1, 2), dtype=np.int64), 1),
        evidence.decision(channel).ranking,
    )
    for start in range(0, N_BINS, THRESHOLD_BLOCK):
        block = np.arange(start, start + THRESHOLD_BLOCK)
        parts = [pixel_counts(counts[few], block) for few in image_chunks(len(counts))]
        tp, fp, fn, tn = (
            np.ascontiguousarray(np.concatenate(part).T) for part in zip(*parts, strict=True)
        )
        shows = (tp + fp) / whole >= min_area
        for k in range(THRESHOLD_BLOCK):
            found, wrong = tp[k] * shows[k], fp[k] * shows[k]
            yield SegmentationDecision(
                PixelCounts(found, wrong, fn[k] + tp[k] - found, tn[k] + fp[k] - wrong),
                counts,
                ranking,
            )


def classification_at_thresholds(
    evidence: ClassificationEvidence, channel: int
) -> Iterator[ClassificationDecision]:
    """Yield the decision for the probability of each byte as the threshold.

    Each image's temperature is kept, and the other classes stay at their rule.
    """
    decided, truth = evidence.decision(channel), evidence.labels > 0
    others = np.delete(evidence.predicted == truth, channel, axis=1).all(1)
    for threshold in bin_probability(np.arange(N_BINS)):
        says = decided.probability >= threshold
        yield ClassificationDecision(
            decided.probability,
            decided.ranking,
            decided.positive,
            says,
            others & (says == decided.positive),
        )


def segmentation_slider_start(evidence: SegmentationEvidence, channel: int) -> SliderStart:
    """Return the slider's start at the byte of the mask's threshold."""
    rules = np.unique(evidence.rule[:, channel], axis=0)
    byte = (
        int(np.clip(np.median(evidence.rule[:, channel, 2]), 0, N_BINS - 1))
        if len(rules)
        else N_BINS // 2
    )
    if len(rules) != 1:
        return SliderStart(byte, OWN_RULE_NOTE, plain=False, note=FOLD_RULES_NOTE)
    top, area, bottom = rules[0].tolist()
    share = f"at least {100 * area:.3g} % of the image" if area else "any pixel"
    if top != bottom:
        return SliderStart(
            byte,
            f"{share} above {bin_probability(top):.4f}, mask from {bin_probability(bottom):.4f}",
            plain=False,
            note=TWO_THRESHOLDS_NOTE,
        )
    return SliderStart(
        byte,
        f"threshold {bin_probability(bottom):.4f}" + (f", {share}" if area else ""),
        plain=0 <= bottom < N_BINS,
    )


def classification_slider_start(evidence: ClassificationEvidence, channel: int) -> SliderStart:
    """Return the slider's start at the byte nearest to the threshold."""
    thresholds = np.unique(evidence.rule[:, channel, 0])
    if not len(thresholds):
        return SliderStart(N_BINS // 2, OWN_RULE_NOTE, plain=False)
    middle = float(np.median(evidence.rule[:, channel, 0]))
    byte = int(np.abs(bin_probability(np.arange(N_BINS)) - middle).argmin())
    if len(thresholds) > 1:
        return SliderStart(byte, OWN_RULE_NOTE, plain=False, note=FOLD_RULES_NOTE)
    return SliderStart(
        byte, f"threshold {middle:.4f}", plain=float(bin_probability(byte)) == middle
    )


class PRPoint(NamedTuple):
    """Precision, recall and F1; arrays of any one shape, NaN where undefined."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def _make_point(counts: PixelCounts) -> PRPoint:
    tp, predicted, true = counts.tp, counts.tp + counts.fp, counts.tp + counts.fn
    return PRPoint(
        safe_divide(tp, predicted),
        safe_divide(tp, true),
        np.where(true > 0, safe_divide(2 * tp, predicted + true), np.nan),
    )


def pixel_pr_curve(evidence: SegmentationEvidence, channel: int) -> PRPoint:
    """Return the pooled scores of one class at each of the 256 bytes."""
    pooled = evidence.counts[:, channel].sum(0, dtype=np.int64)[None]
    counts = pixel_counts(pooled, np.arange(N_BINS))
    return _make_point(PixelCounts(*(part[0] for part in counts)))


def at_operating_point(evidence: SegmentationEvidence, channel: int) -> PRPoint:
    """Return the pooled scores of one class at the rule; a min_area moves them off the curve."""
    counts = evidence.decision(channel).pixels
    return _make_point(PixelCounts(*(part.sum() for part in counts)))


def best_f1_bin(evidence: SegmentationEvidence, channel: int) -> int | None:
    """Return the byte with the best F1 (the middle of ties); None without positive pixels."""
    f1 = pixel_pr_curve(evidence, channel).f1
    if np.isnan(f1).all():
        return None
    ties = np.flatnonzero(f1 >= np.nanmax(f1) - 1e-12)
    return int(ties[np.abs(ties - np.median(ties)).argmin()])


def segmentation_tables(evidence: Mapping[str, SegmentationEvidence]) -> dict[str, Any]:
    """Return `pooled_f1`: class -> val's best threshold, and the scores of each split.

    The threshold is a probability; each split has its F1, precision and recall there, and its
    average precision. Empty without val, and for exclusive classes, which have no threshold.
    """
    if "val" not in evidence or evidence["val"].exclusive:
        return {}
    return {
        "pooled_f1": {
            name: _class_table(evidence, c) for c, name in enumerate(evidence["val"].classes)
        }
    }


def _class_table(evidence: Mapping[str, SegmentationEvidence], channel: int) -> dict[str, Any]:
    byte = best_f1_bin(evidence["val"], channel)
    found: dict[str, Any] = {
        "threshold": None if byte is None else float(bin_probability(byte)),
        "splits": {},
    }
    for split, seen in evidence.items():
        points = pixel_pr_curve(seen, channel)._asdict()
        scores = {
            name: None if byte is None or np.isnan(values[byte]) else float(values[byte])
            for name, values in points.items()
        }
        area = float(average_precision(seen.decision(channel), np.ones((1, len(seen))))[0])
        found["splits"][split] = scores | {"average_precision": None if np.isnan(area) else area}
    return found


AT_RULE = N_BINS  # index of the rule in force, after the thresholds
PER_IMAGE = ("exact_match",)  # scores of a whole image, the same for all classes


@dataclass(frozen=True)
class ThresholdSweep:
    """Scores of one class at 256 thresholds and, at the last of 257 indices, at the rule in force.

    The other classes stay at their rule.

    Attributes:
        values: `scores x 257`.
        images: int `4 x 257`, numbers of images: true positives, false positives, false negatives,
            true negatives.
        pixels: The same counts in pixels for masks, else None.
        positive: Bool `N`, True for images that show the class.
        predicted: Bool `N`, True for images that are predicted to show it at the rule.
        silent: int `N`, the first byte at which an image is no longer predicted to show it, 256 for
            none.
        dice: Dice of the images in `places` at each threshold, `places x 257`, for masks; else
            None.
    """

    values: np.ndarray
    images: np.ndarray
    pixels: np.ndarray | None
    positive: np.ndarray
    predicted: np.ndarray
    silent: np.ndarray
    dice: np.ndarray | None


def sweep_thresholds(
    evidence: Evidence, channel: int, at_each_byte: Any, places: Sequence[int] = ()
) -> ThresholdSweep:
    """Evaluate one class with the scores' own functions at each threshold and at the rule.

    Args:
        evidence: Evidence of the evaluated split.
        channel: Index of the class.
        at_each_byte: Function of evidence and class that yields the decisions at the 256
            thresholds.
        places: Indices of images whose own Dice is returned.
    """
    at_rule = evidence.decision(channel)
    weights, shown = np.ones((1, len(evidence))), np.array(places, int)
    fixed = {
        score.name: float(score.compute(at_rule, weights)[0])
        for score in evidence.metrics
        if score.threshold_free
    }
    silent = np.zeros(len(evidence), int)
    values, images, pixels, each = [], [], [], []
    for byte, here in enumerate([*at_each_byte(evidence, channel), at_rule]):
        values.append([_sweep_value(score, here, weights, fixed) for score in evidence.metrics])
        images.append(_confusion_quadrants(here))
        silent += here.predicted if byte < AT_RULE else 0
        if hasattr(here, "pixels"):
            pixels.append([int(part.sum()) for part in here.pixels])
            each.append(dice(type(here.pixels)(*(part[shown] for part in here.pixels))))
    return ThresholdSweep(
        np.array(values).T,
        np.array(images).T,
        np.array(pixels).T if pixels else None,
        np.asarray(at_rule.positive, bool),
        np.asarray(at_rule.predicted, bool),  # type: ignore[attr-defined]
        silent,
        np.array(each).T if each else None,
    )


def _sweep_value(
    score: Metric, decision: Decision, weights: np.ndarray, fixed: dict[str, float]
) -> float:
    return fixed[score.name] if score.name in fixed else float(score.compute(decision, weights)[0])


def _confusion_quadrants(decided: Any) -> tuple[int, int, int, int]:
    predicted, true = int(decided.predicted.sum()), int(decided.positive.sum())
    both = int((decided.predicted & decided.positive).sum())
    return both, predicted - both, true - both, len(decided.predicted) - predicted - true + both


def sweep_means(each: Sequence[ThresholdSweep], scores: Sequence[Metric]) -> list[np.ndarray]:
    """Return for each class the means over classes while its threshold moves: `scores x 257`.

    Classes for which a score is undefined do not count.
    """
    at_rule = np.array([sweep.values[:, AT_RULE:] for sweep in each])  # classes x scores x 1
    shared = np.array([score.name in PER_IMAGE for score in scores])
    means = []
    for channel, moving in enumerate(each):
        all_classes = np.repeat(at_rule, AT_RULE + 1, axis=2)
        all_classes[channel] = moving.values
        means.append(np.where(shared[:, None], moving.values, mean_where_defined(all_classes)))
    return means
