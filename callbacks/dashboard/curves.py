"""The curves of a run as numbers: Dice or F1 by threshold, precision and recall, ROC."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from callbacks.report.mask_figures import mean_dice_curve
from callbacks.report.pooled import pixel_pr_curve
from lightning_modules.evidence import Evidence
from lightning_modules.label_evidence import ClassificationEvidence
from lightning_modules.logit_byte import LEVELS, bin_probability
from lightning_modules.mask_evidence import SegmentationEvidence

MAX_POINTS = 500  # of a curve at most


@dataclass
class CurvePanel:
    """One panel.

    Attributes:
        title: Of the panel.
        x_label: Name of its x axis.
        lines: Name of a line -> its x and y.
    """

    title: str
    x_label: str
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, name: str, x: np.ndarray, y: np.ndarray) -> None:
        """Add a line without its undefined points, thinned to `MAX_POINTS`."""
        some = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if len(some) > MAX_POINTS:
            some = some[np.linspace(0, len(some) - 1, MAX_POINTS).round().astype(int)]
        if len(some):
            self.lines[name] = (x[some], y[some])


def report_curves(evidence: Mapping[str, Evidence]) -> dict[str, CurvePanel]:
    """Return key -> panel.

    Of one class a panel has a line for each split; of several classes a line for each of them, of
    the split that is evaluated last.
    """
    several = len(next(iter(evidence.values())).classes) > 1
    found: dict[str, CurvePanel] = {}
    for split, seen in [list(evidence.items())[-1]] if several else evidence.items():
        for channel, of_class in enumerate(seen.classes):
            _class_curves(found, f"{split} {of_class}" if several else split, seen, channel)
    return {key: panel for key, panel in found.items() if panel.lines}


def _class_curves(found: dict[str, CurvePanel], name: str, seen: Evidence, channel: int) -> None:
    if isinstance(seen, SegmentationEvidence):
        points, bytes_ = pixel_pr_curve(seen, channel), np.arange(LEVELS)
        _make_panel(found, "dice_by_threshold", "Dice against threshold", "threshold").add(
            name, bin_probability(bytes_), mean_dice_curve(seen, channel, bytes_)
        )
        _make_panel(found, "precision_recall", "Precision and recall of pixels", "recall").add(
            name, points.recall, points.precision
        )
    elif isinstance(seen, ClassificationEvidence):
        decided = seen.decided(channel)
        if not 0 < decided.positive.sum() < len(seen):
            return
        false, true, _ = roc_curve(decided.positive, decided.ranking)
        precision, recall, _ = precision_recall_curve(decided.positive, decided.ranking)
        _make_panel(found, "roc", "ROC", "false positive rate").add(name, false, true)
        _make_panel(found, "precision_recall", "Precision and recall", "recall").add(
            name, recall, precision
        )
        if not seen.exclusive:
            thresholds = np.linspace(0, 1, 101)
            said = decided.probability >= thresholds[:, None]
            f1 = (
                2
                * (said & decided.positive).sum(1)
                / np.maximum(1, said.sum(1) + decided.positive.sum())
            )
            _make_panel(found, "f1_by_threshold", "F1 against threshold", "threshold").add(
                name, thresholds, f1
            )


def _make_panel(found: dict[str, CurvePanel], key: str, title: str, across: str) -> CurvePanel:
    return found.setdefault(key, CurvePanel(title, across))
