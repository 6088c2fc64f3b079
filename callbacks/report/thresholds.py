"""Decides masks and labels at each of the 256 byte thresholds."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lightning_modules.label_evidence import ClassificationEvidence
from lightning_modules.label_scores import ClassificationDecision
from lightning_modules.logit_byte import LEVELS, bin_probability
from lightning_modules.mask_decision import PixelCounts, SegmentationDecision, chunks, pixel_counts
from lightning_modules.mask_evidence import SegmentationEvidence

THRESHOLD_BLOCK = 32  # thresholds whose pixel counts are held at once
OWN_RULE_NOTE = "each image at the rule of its own fold"
FOLD_RULES_NOTE = (
    "At first each image is decided by the rule of its own fold; a moved slider is one threshold"
    " for all of them."
)
TWO_THRESHOLDS_NOTE = (
    "The rule has two thresholds, one from which an image shows the class and one at which its mask"
    " is drawn; a moved slider is both of them."
)


class SliderStart(NamedTuple):
    """Position of a slider at the rule in force.

    Attributes:
        byte: The nearest threshold.
        words: The rule in words.
        plain: Whether the rule decides exactly like this threshold.
        note: A further remark on the rule.
    """

    byte: int
    words: str
    plain: bool
    note: str = ""


def segmentation_at_thresholds(
    evidence: SegmentationEvidence, channel: int
) -> Iterator[SegmentationDecision]:
    """Yield the decisions with top and bottom of the rule at each byte; min_area is kept."""
    counts, min_area = evidence.counts[:, channel], evidence.rule[:, channel, 1]
    whole, ranking = (
        np.maximum(counts.sum((1, 2), dtype=np.int64), 1),
        evidence.decided(channel).ranking,
    )
    for start in range(0, LEVELS, THRESHOLD_BLOCK):
        block = np.arange(start, start + THRESHOLD_BLOCK)
        parts = [pixel_counts(counts[few], block) for few in chunks(len(counts))]
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
    """Yield the decisions with the threshold at the probability of each byte.

    Each image's temperature is kept, and the other classes stay at their rule.
    """
    decided, truth = evidence.decided(channel), evidence.labels > 0
    others = np.delete(evidence.predicted == truth, channel, axis=1).all(1)
    for threshold in bin_probability(np.arange(LEVELS)):
        says = decided.probability >= threshold
        yield ClassificationDecision(
            decided.probability,
            decided.ranking,
            decided.positive,
            says,
            others & (says == decided.positive),
        )


def segmentation_slider_start(evidence: SegmentationEvidence, channel: int) -> SliderStart:
    """Return the start at the byte where the mask is drawn."""
    rules = np.unique(evidence.rule[:, channel], axis=0)
    byte = (
        int(np.clip(np.median(evidence.rule[:, channel, 2]), 0, LEVELS - 1))
        if len(rules)
        else LEVELS // 2
    )
    if len(rules) != 1:
        return SliderStart(byte, OWN_RULE_NOTE, plain=False, note=FOLD_RULES_NOTE)
    top, area, bottom = rules[0].tolist()
    share = f"at least {100 * area:.3g} % of the image" if area else "any pixel"
    if top != bottom:
        return SliderStart(
            byte,
            f"{share} above {bin_probability(top):.4f}, drawn at {bin_probability(bottom):.4f}",
            plain=False,
            note=TWO_THRESHOLDS_NOTE,
        )
    return SliderStart(
        byte,
        f"threshold {bin_probability(bottom):.4f}" + (f", {share}" if area else ""),
        plain=0 <= bottom < LEVELS,
    )


def classification_slider_start(evidence: ClassificationEvidence, channel: int) -> SliderStart:
    """Return the start at the byte nearest to the threshold."""
    thresholds = np.unique(evidence.rule[:, channel, 0])
    if not len(thresholds):
        return SliderStart(LEVELS // 2, OWN_RULE_NOTE, plain=False)
    middle = float(np.median(evidence.rule[:, channel, 0]))
    byte = int(np.abs(bin_probability(np.arange(LEVELS)) - middle).argmin())
    if len(thresholds) > 1:
        return SliderStart(byte, OWN_RULE_NOTE, plain=False, note=FOLD_RULES_NOTE)
    return SliderStart(
        byte, f"threshold {middle:.4f}", plain=float(bin_probability(byte)) == middle
    )
