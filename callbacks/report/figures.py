"""What the page's curves share: their style, SVG that takes the page's colours, and the learning curves."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

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


def figure(draw: Callable[[Axes], None], width: float = 4.6) -> str:
    """What `draw` puts on its axes, as SVG."""
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, 3.3), layout="constrained")
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    svg = file.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def learning_curves(path: Path, score: str) -> str:
    """Losses and one score of metrics.csv over the epochs, empty where nothing was trained.

    Args:
        path: metrics.csv.
        score: Such as `val/dice`.
    """
    if not path.is_file():
        return ""
    table = pd.read_csv(path)
    if "train/loss" in table:  # the validation of the best checkpoint, after the fit, is no point of the curve
        table = table[table["epoch"].isin(table["epoch"][table["train/loss"].notna()])]
    wanted = {name: table[["epoch", name]].dropna() for name in ("train/loss", "val/loss", score) if name in table}
    wanted = {name: curve for name, curve in wanted.items() if len(curve)}

    def draw(axes: Axes) -> None:
        right = axes.twinx()
        for name, curve in wanted.items():
            side, colour = (right if name == score else axes), COLOURS[name.split("/")[0]]
            style = "solid" if name == score else "dashed"
            side.plot(curve["epoch"] + 1, curve[name], color=colour, linestyle=style, marker="o", markersize=2.5, label=name)
        axes.set(xlabel="epoch", ylabel="loss (dashed)")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.set(ylabel=f"{score} at the rule of its epoch", ylim=(0, 1))
        right.spines["right"].set_visible(True)
        lines = [*axes.get_lines(), *right.get_lines()]
        axes.legend(lines, [str(line.get_label()) for line in lines], loc="best")

    return figure(draw) if wanted else ""
