"""The curves of a segmentation: Dice against threshold, precision and recall, reliability, spread."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from callbacks.report.figures import COLOURS, INK, figure
from lightning_modules.logit_byte import LEVELS, probability_of
from lightning_modules.mask_decision import dice, pixel_counts
from lightning_modules.mask_evidence import MaskEvidence


def mask_figures(evidence: Mapping[str, MaskEvidence]) -> dict[str, str]:
    """Title -> SVG."""
    return {
        "Dice against threshold": figure(lambda axes: _dice_curves(axes, evidence)),
        "Precision and recall of pixels": figure(lambda axes: _precision_recall(axes, evidence)),
        "Reliability of pixel probabilities": figure(lambda axes: _reliability(axes, evidence)),
        "Dice of single images": figure(lambda axes: _spread(axes, evidence)),
    }


def _dice_curves(axes: Axes, evidence: Mapping[str, MaskEvidence]) -> None:
    thresholds = np.arange(80, 177)
    for split, seen in evidence.items():
        for c, name in enumerate(seen.classes):
            curve = dice(pixel_counts(seen.counts[:, c], thresholds)).mean(0)
            axes.plot(probability_of(thresholds), curve, color=COLOURS[split], label=f"{split}" + (f" {name}" if len(seen.classes) > 1 else ""))
            axes.axvline(float(probability_of(seen.rule[0, c, 2])), color=COLOURS["val"], linewidth=0.8, linestyle=":")
    axes.set(xlabel="threshold (dotted: chosen on val)", ylabel="mean Dice of images", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="lower center")


def _precision_recall(axes: Axes, evidence: Mapping[str, MaskEvidence]) -> None:
    for split, seen in evidence.items():
        pooled = seen.counts.sum((0, 1))[None]
        counts = pixel_counts(pooled, np.arange(LEVELS))
        recall = counts.tp[0] / max(1, (counts.tp + counts.fn)[0, 0])
        precision = counts.tp[0] / np.maximum(1, (counts.tp + counts.fp)[0])
        axes.plot(recall, precision, color=COLOURS[split], label=split)
        at = int(seen.rule[0, 0, 2])
        axes.plot(recall[at], precision[at], "o", color=COLOURS[split], markersize=5)
    axes.set(xlabel="recall", ylabel="precision (dot: at the rule)", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left")


def _reliability(axes: Axes, evidence: Mapping[str, MaskEvidence]) -> None:
    probability = probability_of(np.arange(LEVELS) + 0.5)
    bins = np.minimum((probability * 10).astype(int), 9)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
    for split, seen in evidence.items():
        rest, lesion = seen.counts.sum((0, 1)).astype(np.float64)
        total = np.bincount(bins, rest + lesion, 10)
        stated = np.bincount(bins, (rest + lesion) * probability, 10)
        true = np.bincount(bins, lesion, 10)
        some = total > 0
        axes.plot(stated[some] / total[some], true[some] / total[some], "o-", color=COLOURS[split], markersize=4, label=split)
    axes.set(xlabel="stated probability", ylabel="share that is lesion", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")


def _spread(axes: Axes, evidence: Mapping[str, MaskEvidence]) -> None:
    edges = np.linspace(0, 1, 21).tolist()
    for split, seen in evidence.items():
        values = np.concatenate([dice(seen.decided(c).pixels) for c in range(len(seen.classes))])
        axes.hist(values, edges, histtype="stepfilled", alpha=0.35, color=COLOURS[split], label=f"{split} (n={len(values)})")
        axes.hist(values, edges, histtype="step", color=COLOURS[split])
    axes.set(xlabel="Dice at the rule", ylabel="images", xlim=(0, 1))
    axes.legend(loc="upper center")
