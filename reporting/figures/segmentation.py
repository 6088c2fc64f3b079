"""Figures of a segmentation report. Add a segmentation plot here."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from evaluation.evidence import SegmentationEvidence
from evaluation.logit_bins import N_BINS, bin_probability
from evaluation.metrics.segmentation import dice, image_chunks, pixel_counts
from evaluation.threshold_sweep import at_operating_point, best_f1_bin, pixel_pr_curve
from reporting.figures.style import COLORS, INK, figure, split_label

SplitEvidence = Mapping[str, SegmentationEvidence]
CURVE_BINS = np.arange(80, 177)


def segmentation_figures(evidence: SplitEvidence) -> dict[str, str]:
    """Return title -> SVG; with several classes, precision and recall are panels instead.

    Exclusive classes have no threshold, and one reliability for all of them.
    """
    dice_histogram = {
        "Dice of single images at the decision rule": figure(
            lambda axes: _draw_dice_histogram(axes, evidence)
        )
    }
    if next(iter(evidence.values())).exclusive:
        reliability = figure(lambda axes: _draw_top_reliability(axes, evidence))
        return {"Reliability of the predicted class": reliability} | dice_histogram
    single = len(next(iter(evidence.values())).classes) == 1
    found = {
        "Dice against threshold": figure(
            lambda axes: (
                draw_dice_curve(axes, evidence, 0)
                if single
                else _dice_per_threshold(axes, evidence)
            )
        )
    }
    if single:
        found["Precision and recall of pixels"] = figure(
            lambda axes: draw_precision_recall(axes, evidence, 0)
        )
    found["Reliability of pixel probabilities"] = figure(
        lambda axes: _draw_reliability(axes, evidence)
    )
    return found | dice_histogram


def mean_dice_curve(
    evidence: SegmentationEvidence, channel: int, bytes_: np.ndarray = CURVE_BINS
) -> np.ndarray:
    """Return one class's mean Dice at thresholds `bytes_`, without the rule's min_area."""
    chunks = image_chunks(len(evidence))
    return sum(
        dice(pixel_counts(evidence.counts[part, channel], bytes_)).sum(0) for part in chunks
    ) / max(1, len(evidence))


def draw_dice_curve(axes: Axes, evidence: SplitEvidence, channel: int) -> None:
    """Plot one class's mean Dice against the threshold, a curve per split, and mark the rule."""
    for split, split_evidence in evidence.items():
        axes.plot(
            bin_probability(CURVE_BINS),
            mean_dice_curve(split_evidence, channel),
            color=COLORS[split],
            label=split_label(split),
        )
        axes.axvline(
            float(bin_probability(split_evidence.rule[0, channel, 2])),
            color=COLORS["val"],
            linewidth=0.8,
            linestyle=":",
        )
    axes.set(
        xlabel="probability threshold (dotted: chosen on val)",
        ylabel="mean Dice over images",
        xlim=(0, 1),
        ylim=(0, 1),
    )


def _dice_per_threshold(axes: Axes, evidence: SplitEvidence) -> None:
    """Plot the mean over classes in bold and each class thin."""
    for split, split_evidence in evidence.items():
        curves = [mean_dice_curve(split_evidence, c) for c in range(len(split_evidence.classes))]
        for class_curve in curves:
            axes.plot(
                bin_probability(CURVE_BINS),
                class_curve,
                color=COLORS[split],
                linewidth=0.7,
                alpha=0.45,
            )
        axes.plot(
            bin_probability(CURVE_BINS),
            np.mean(curves, axis=0),
            color=COLORS[split],
            linewidth=2.4,
            label=f"{split_label(split)}, mean of classes",
        )
    axes.set(
        xlabel="probability threshold (thin lines: single classes)",
        ylabel="mean Dice over images",
        xlim=(0, 1),
        ylim=(0, 1),
    )


def draw_precision_recall(axes: Axes, evidence: SplitEvidence, channel: int) -> None:
    """Plot pixel precision against recall of one class, a curve per split.

    A dot marks the threshold of val's best F1 on each curve, a ring the rule in force.
    """
    byte = best_f1_bin(evidence["val"], channel) if "val" in evidence else None
    for split, split_evidence in evidence.items():
        points, color = pixel_pr_curve(split_evidence, channel), COLORS[split]
        words = split_label(split)
        if byte is not None and np.isfinite(points.f1[byte]):
            axes.plot(
                points.recall[byte],
                points.precision[byte],
                "o",
                color=color,
                markersize=6,
                zorder=4,
            )
            words += f": F1 {points.f1[byte]:.3f} at {float(bin_probability(byte)):.3f}"
        some = np.isfinite(points.precision)  # beyond the highest byte nothing is predicted
        axes.plot(points.recall[some], points.precision[some], color=color, label=words)
        ring, style = (
            at_operating_point(split_evidence, channel),
            {"color": color, "fillstyle": "none", "markersize": 9},
        )
        axes.plot(ring.recall, ring.precision, "o", zorder=3, **style)  # type: ignore[arg-type]
    axes.set(
        xlabel="recall of pixels (dot: best F1 on val, ring: rule)",
        ylabel="precision of pixels",
        xlim=(0, 1.02),
        ylim=(0, 1.02),
    )


def _draw_reliability(axes: Axes, evidence: SplitEvidence) -> None:
    probability = bin_probability(np.arange(N_BINS) + 0.5)
    bins = np.minimum((probability * 10).astype(int), 9)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
    for split, split_evidence in evidence.items():
        rest, lesion = split_evidence.counts.sum((0, 1)).astype(np.float64)
        total = np.bincount(bins, rest + lesion, 10)
        predicted = np.bincount(bins, (rest + lesion) * probability, 10)
        true = np.bincount(bins, lesion, 10)
        some = total > 0
        axes.plot(
            predicted[some] / total[some],
            true[some] / total[some],
            "o-",
            color=COLORS[split],
            markersize=4,
            label=split_label(split),
        )
    axes.set(
        xlabel="predicted probability of a pixel",
        ylabel="fraction of pixels in a lesion",
        xlim=(0, 1),
        ylim=(0, 1),
    )


def _draw_top_reliability(axes: Axes, evidence: SplitEvidence) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
    for split, split_evidence in evidence.items():
        wrong, right, confidence = split_evidence.calibration.sum(0).T
        pixels = wrong + right
        some = pixels > 0
        predicted, true = confidence[some] / pixels[some], right[some] / pixels[some]
        axes.plot(predicted, true, linewidth=1, color=COLORS[split], label=split_label(split))
        area = 8 + 120 * pixels[some] / pixels.sum()
        axes.scatter(predicted, true, s=area, color=COLORS[split])
    axes.set(
        xlabel="probability of the predicted class (dot area: pixels)",
        ylabel="fraction of correct pixels",
        xlim=(0, 1),
        ylim=(0, 1),
    )


def _draw_dice_histogram(axes: Axes, evidence: SplitEvidence) -> None:
    edges = np.linspace(0, 1, 21).tolist()
    for split, split_evidence in evidence.items():
        decided = [split_evidence.decision(c) for c in range(len(split_evidence.classes))]
        relevant: Any = [
            d.positive | d.predicted if len(decided) > 1 else slice(None) for d in decided
        ]
        values = np.concatenate(
            [dice(d.pixels)[kept] for d, kept in zip(decided, relevant, strict=True)]
        )
        axes.hist(
            values,
            edges,
            histtype="stepfilled",
            alpha=0.35,
            color=COLORS[split],
            label=f"{split_label(split)} (n={len(values)})",
        )
        axes.hist(values, edges, histtype="step", color=COLORS[split])
    several = (
        " (classes in truth or prediction)"
        if len(next(iter(evidence.values())).classes) > 1
        else ""
    )
    axes.set(xlabel=f"Dice of an image{several}", ylabel="number of images", xlim=(0, 1))


DrawPanel = Callable[[Axes, Mapping[str, SegmentationEvidence], int], None]


def segmentation_panels(evidence: Mapping[str, SegmentationEvidence]) -> dict[str, dict[str, str]]:
    """Return title -> class -> SVG, curves over thresholds.

    It is empty for a single class, which has full-size figures, and for exclusive classes.
    """
    first = next(iter(evidence.values()))
    classes = first.classes
    if len(classes) == 1 or first.exclusive:
        return {}
    draws: dict[str, DrawPanel] = {
        "Precision and recall of pixels, by class": draw_precision_recall,
        "Dice against threshold, by class": draw_dice_curve,
    }
    return {
        title: {
            name: figure(_draw_small(draw, evidence, c), 2.2, 1.9, legend=False)
            for c, name in enumerate(classes)
        }
        for title, draw in draws.items()
    }


def _draw_small(
    draw: DrawPanel, evidence: Mapping[str, SegmentationEvidence], channel: int
) -> Callable[[Axes], None]:
    def draw_panel(axes: Axes) -> None:
        """Draw one class without axis labels, which the page writes once."""
        draw(axes, evidence, channel)
        axes.set(xlabel="", ylabel="", xticks=np.linspace(0, 1, 3), yticks=np.linspace(0, 1, 3))

    return draw_panel
