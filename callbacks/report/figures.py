"""What the curves of pages share: their colours and style, and SVG that takes the page's colours."""

import io
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLOURS = {"train": "#8a8f98", "val": "#2f81f7", "test": "#e8590c", "out_of_fold": "#e8590c"}
# Each stands out from a white and a dark page by 3.2 : 1 or more.
PALETTE = ("#e8590c", "#2f81f7", "#2da44e", "#a371f7", "#b08800", "#d6409f", "#1b9aaa", "#8a8f98")
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
    "text.parse_math": False,  # names from data may hold a $
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
