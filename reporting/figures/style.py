"""Colours, style and SVG output that the figures of all pages share."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLORS = {"train": "#8a8f98", "val": "#2f81f7", "test": "#e8590c", "out_of_fold": "#e8590c"}
# Each stands out from a white and a dark page by 3.2 : 1 or more.
PALETTE = ("#e8590c", "#2f81f7", "#2da44e", "#a371f7", "#b08800", "#d6409f", "#1b9aaa", "#8a8f98")
MAX_LEGEND_INSIDE = 4  # entries of a legend that the axes have room for
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


def figure(draw: Callable[[Axes], None], width: float = 4.6, height: float = 3.3) -> str:
    """Let `draw` plot on axes and return them as SVG; width and height are in inches."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        for part in (figure, *figure.axes):
            part.patch.set_visible(False)  # type: ignore[attr-defined]
        file = io.StringIO()
        # savefig would draw everything twice
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    svg = file.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def legend(axes: Axes, loc: Any) -> None:
    """Add a legend, below the axes if it has more than `MAX_LEGEND_INSIDE` entries."""
    lines, names = axes.get_legend_handles_labels()
    if len(names) > MAX_LEGEND_INSIDE:
        legend_below(axes, lines, names, 3 if max(map(len, names)) < 18 else 2)
    elif names:
        axes.legend(loc=loc)


def legend_below(axes: Axes, lines: Sequence[Any], names: Sequence[str], columns: int) -> None:
    """Add a legend below the axes, and make the figure taller by its height."""
    figure: Any = axes.figure
    figure.set_figheight(figure.get_figheight() + 0.19 * math.ceil(len(names) / columns))
    figure.legend(
        lines,
        names,
        loc="outside lower center",
        ncols=columns,
        fontsize=8.5,
        handlelength=1.6,
        columnspacing=1.2,
    )


def line_style(number: int) -> dict[str, Any]:
    """Return colour and dashes of curve `number`; a repeated colour gets other dashes."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": ("-", "--", ":", "-.")[number // len(PALETTE) % 4],
    }
