"""Pooled precision and recall of pixels, and the threshold of the best F1, chosen on val."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lightning_modules.logit_byte import LEVELS, bin_probability
from lightning_modules.mask_decision import PixelCounts, pixel_counts
from lightning_modules.mask_evidence import SegmentationEvidence
from lightning_modules.mask_scores import average_precision
from lightning_modules.score import safe_divide


class PRPoint(NamedTuple):
    """Precision, recall and F1; arrays of any one shape, NaN where undefined."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def _make_point(counts: PixelCounts) -> PRPoint:
    tp, said, true = counts.tp, counts.tp + counts.fp, counts.tp + counts.fn
    return PRPoint(
        safe_divide(tp, said),
        safe_divide(tp, true),
        np.where(true > 0, safe_divide(2 * tp, said + true), np.nan),
    )


def pixel_pr_curve(evidence: SegmentationEvidence, channel: int) -> PRPoint:
    """Return the pooled scores of one class at each of the 256 bytes."""
    pooled = evidence.counts[:, channel].sum(0, dtype=np.int64)[None]
    counts = pixel_counts(pooled, np.arange(LEVELS))
    return _make_point(PixelCounts(*(part[0] for part in counts)))


def at_operating_point(evidence: SegmentationEvidence, channel: int) -> PRPoint:
    """Return the pooled scores of one class at the rule; min_area may move them off the curve."""
    counts = evidence.decided(channel).pixels
    return _make_point(PixelCounts(*(part.sum() for part in counts)))


def best_f1_bin(evidence: SegmentationEvidence, channel: int) -> int | None:
    """Return the byte of the best F1, the middle one of ties; None without true pixels."""
    f1 = pixel_pr_curve(evidence, channel).f1
    if np.isnan(f1).all():
        return None
    ties = np.flatnonzero(f1 >= np.nanmax(f1) - 1e-12)
    return int(ties[np.abs(ties - np.median(ties)).argmin()])


def segmentation_tables(evidence: Mapping[str, SegmentationEvidence]) -> dict[str, Any]:
    """Return `pooled_f1`: class -> val's best threshold, and the scores of each split.

    The threshold is a probability; each split has its F1, precision and recall there, and its
    average precision. Empty without val.
    """
    if "val" not in evidence:
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
        judged = {
            name: None if byte is None or np.isnan(values[byte]) else float(values[byte])
            for name, values in points.items()
        }
        area = float(average_precision(seen.decided(channel), np.ones((1, len(seen))))[0])
        found["splits"][split] = judged | {"average_precision": None if np.isnan(area) else area}
    return found
