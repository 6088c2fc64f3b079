"""The page's curves, as SVG that takes the page's colours."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lightning_modules.decision import decide, dice, pixel_counts
from lightning_modules.evidence import Evidence
from lightning_modules.logit_byte import LEVELS, probability_of

COLOURS = {"train": "#8a8f98", "val": "#2f81f7", "test": "#e8590c", "out_of_fold": "#e8590c"}
INK = "#123456"  # replaced by currentColor, so that axes follow light and dark
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "report",
}


def figures(evidence: Mapping[str, Evidence], run_dir: Path) -> dict[str, str]:
    """Title -> SVG, for all that can be drawn."""
    drawn = {"Learning curves": _learning(run_dir / "metrics.csv")}
    drawn["Dice against threshold"] = _figure(lambda axes: _dice_curves(axes, evidence))
    drawn["Precision and recall of pixels"] = _figure(lambda axes: _precision_recall(axes, evidence))
    drawn["Reliability of pixel probabilities"] = _figure(lambda axes: _reliability(axes, evidence))
    drawn["Dice of single images"] = _figure(lambda axes: _spread(axes, evidence))
    return {title: svg for title, svg in drawn.items() if svg}


def _figure(draw: Any, width: float = 4.6) -> str:
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, 3.3), layout="constrained")
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    svg = file.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _learning(path: Path) -> str:
    if not path.is_file():
        return ""
    table = pd.read_csv(path)
    if "train/loss" in table:  # the validation of the best checkpoint, after the fit, is no point of the curve
        table = table[table["epoch"].isin(table["epoch"][table["train/loss"].notna()])]
    wanted = {name: table[["epoch", name]].dropna() for name in ("train/loss", "val/loss", "val/dice") if name in table}
    wanted = {name: curve for name, curve in wanted.items() if len(curve)}

    def draw(axes: Axes) -> None:
        right = axes.twinx()
        for name, curve in wanted.items():
            side, colour = (right if name == "val/dice" else axes), COLOURS[name.split("/")[0]]
            style = "solid" if name == "val/dice" else "dashed"
            side.plot(curve["epoch"] + 1, curve[name], color=colour, linestyle=style, marker="o", markersize=2.5, label=name)
        axes.set(xlabel="epoch", ylabel="loss (dashed)")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.set(ylabel="val/dice at the rule of its epoch", ylim=(0, 1))
        right.spines["right"].set_visible(True)
        lines = [*axes.get_lines(), *right.get_lines()]
        axes.legend(lines, [str(line.get_label()) for line in lines], loc="best")

    return _figure(draw) if wanted else ""


def _dice_curves(axes: Axes, evidence: Mapping[str, Evidence]) -> None:
    thresholds = np.arange(80, 177)
    for split, seen in evidence.items():
        for c, name in enumerate(seen.classes):
            curve = dice(pixel_counts(seen.counts[:, c], thresholds)).mean(0)
            axes.plot(probability_of(thresholds), curve, color=COLOURS[split], label=f"{split}" + (f" {name}" if len(seen.classes) > 1 else ""))
            axes.axvline(float(probability_of(seen.rule[0, c, 2])), color=COLOURS["val"], linewidth=0.8, linestyle=":")
    axes.set(xlabel="threshold (dotted: chosen on val)", ylabel="mean Dice of images", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="lower center")


def _precision_recall(axes: Axes, evidence: Mapping[str, Evidence]) -> None:
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


def _reliability(axes: Axes, evidence: Mapping[str, Evidence]) -> None:
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


def _spread(axes: Axes, evidence: Mapping[str, Evidence]) -> None:

    edges = np.linspace(0, 1, 21).tolist()
    for split, seen in evidence.items():
        values = np.concatenate([dice(decide(seen, c).pixels) for c in range(len(seen.classes))])
        axes.hist(values, edges, histtype="stepfilled", alpha=0.35, color=COLOURS[split], label=f"{split} (n={len(values)})")
        axes.hist(values, edges, histtype="step", color=COLOURS[split])
    axes.set(xlabel="Dice at the rule", ylabel="images", xlim=(0, 1))
    axes.legend(loc="upper center")
