"""Figures of a classification: ROC, precision-recall, F1, calibration, probabilities."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from evaluation.evidence import ClassificationEvidence
from evaluation.metrics.classification import ClassificationDecision
from reporting.figures.style import COLORS, INK, PALETTE, figure, line_style, split_label

SplitEvidence = Mapping[str, ClassificationEvidence]


def classification_figures(evidence: SplitEvidence) -> dict[str, str]:
    """Return title -> SVG."""
    curves = {
        "ROC": figure(lambda axes: _draw_roc(axes, evidence)),
        "Precision and recall": figure(lambda axes: _draw_precision_recall(axes, evidence)),
        "F1 against threshold": figure(lambda axes: _draw_f1(axes, evidence)),
        "Calibration": figure(lambda axes: _draw_calibration(axes, evidence)),
    }
    return curves | {"Probabilities by truth": figure(lambda axes: _draw_histogram(axes, evidence))}


def _draw_curves(
    evidence: SplitEvidence,
) -> Iterator[tuple[str, dict[str, Any], ClassificationDecision, float | None]]:
    """Yield label, style, decision and threshold of every curve.

    A single class has a curve per split, several classes one each for the last split. The threshold
    is None where images have different ones.
    """
    several = len(next(iter(evidence.values())).classes) > 1
    for split, split_evidence in [list(evidence.items())[-1]] if several else evidence.items():
        for c, name in enumerate(split_evidence.classes):
            decided = split_evidence.decision(c)
            if len(split_evidence) and 0 < decided.positive.sum() < len(split_evidence):
                style = line_style(c) if several else {"color": COLORS[split]}
                thresholds = np.unique(split_evidence.rule[:, c, 0])  # folds have one each
                yield (
                    f"{split_label(split)} {name}" if several else split_label(split),
                    style,
                    decided,
                    float(thresholds[0]) if len(thresholds) == 1 else None,
                )


def _rate_curve(d: ClassificationDecision) -> tuple[float, float, float]:
    """Return false positive rate, recall and precision of a decision."""
    tp, fp = (d.predicted & d.positive).sum(), (d.predicted & ~d.positive).sum()
    return fp / max(1, (~d.positive).sum()), tp / max(1, d.positive.sum()), tp / max(1, tp + fp)


def _draw_roc(axes: Axes, evidence: SplitEvidence) -> None:
    from sklearn.metrics import roc_curve  # takes a second, and a page of masks does not need it

    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
    for label, style, decided, _ in _draw_curves(evidence):
        false, true, _ = roc_curve(decided.positive, decided.ranking)
        axes.plot(false, true, label=label, **style)
        at = _rate_curve(decided)
        axes.plot(at[0], at[1], "o", color=style["color"], markersize=5)
    axes.set(
        xlabel="false positive rate (dot: at the decision rule)",
        ylabel="sensitivity (true positive rate)",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )


def _draw_precision_recall(axes: Axes, evidence: SplitEvidence) -> None:
    from sklearn.metrics import precision_recall_curve

    for label, style, decided, _ in _draw_curves(evidence):
        precision, recall, _ = precision_recall_curve(decided.positive, decided.ranking)
        axes.step(recall, precision, label=label, where="post", **style)
        axes.axhline(
            float(decided.positive.mean()), color=style["color"], linewidth=0.7, linestyle=":"
        )
        at = _rate_curve(decided)
        axes.plot(at[1], at[2], "o", color=style["color"], markersize=5)
    axes.set(
        xlabel="recall (dot: decision rule, dotted: prevalence)",
        ylabel="precision",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )


def _draw_f1(axes: Axes, evidence: SplitEvidence) -> None:
    thresholds = np.linspace(0, 1, 501)
    for label, style, decided, threshold in _draw_curves(evidence):
        positive, all_ = (
            np.sort(decided.probability[decided.positive]),
            np.sort(decided.probability),
        )
        tp, n_predicted = (
            len(positive) - np.searchsorted(positive, thresholds),
            len(all_) - np.searchsorted(all_, thresholds),
        )
        axes.plot(
            thresholds, 2 * tp / np.maximum(1, n_predicted + len(positive)), label=label, **style
        )
        if threshold is not None:
            axes.axvline(threshold, color=COLORS["val"], linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="probability threshold (dotted: chosen on val)",
        ylabel="F1",
        xlim=(0, 1),
        ylim=(0, 1),
    )


def _draw_calibration(axes: Axes, evidence: SplitEvidence) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
    for label, style, decided, _ in _draw_curves(evidence):
        bins = np.minimum((decided.probability * 10).astype(int), 9)
        number = np.bincount(bins, minlength=10)
        some = number > 0
        predicted = np.bincount(bins, decided.probability, 10)[some] / number[some]
        true = np.bincount(bins, decided.positive, 10)[some] / number[some]
        axes.plot(predicted, true, linewidth=1, label=label, **style)
        axes.scatter(predicted, true, s=8 + 120 * number[some] / number.sum(), color=style["color"])
    axes.set(
        xlabel="mean predicted probability (dot area: images)",
        ylabel="fraction of positive images",
        xlim=(0, 1),
        ylim=(0, 1),
    )


def _draw_histogram(axes: Axes, evidence: SplitEvidence) -> None:
    split, split_evidence = list(evidence.items())[-1]
    truth, probability = (split_evidence.labels > 0).ravel(), split_evidence.probability.ravel()
    for positive, color, name in (
        (True, PALETTE[0], "truly positive"),
        (False, PALETTE[1], "truly negative"),
    ):
        values = probability[truth == positive]
        axes.hist(
            values,
            np.linspace(0, 1, 21).tolist(),
            histtype="stepfilled",
            alpha=0.4,
            color=color,
            label=f"{name} (n={len(values)})",
        )
    axes.set(
        xlabel=f"predicted probability on {split_label(split)}",
        ylabel="number of images",
        xlim=(0, 1),
    )
