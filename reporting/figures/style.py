"""Colors, style and SVG output that the figures of all pages share."""

import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLORS = {"train": "#8a8f98", "val": "#2f81f7", "test": "#e8590c", "out_of_fold": "#e8590c"}
# Each stands out from a white and a dark page by 3.2 : 1 or more.
PALETTE = ("#e8590c", "#2f81f7", "#2da44e", "#a371f7", "#b08800", "#d6409f", "#1b9aaa", "#8a8f98")
MAX_LEGEND_COLUMNS = 4
LEGEND_MARGIN = 0.15  # inches beside a legend, because a browser's font may be a little wider
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


def figure(
    draw: Callable[[Axes], None], width: float = 4.6, height: float = 3.3, legend: bool = True
) -> str:
    """Return a figure as SVG, with a legend of all labeled curves below the axes.

    Args:
        draw: Plots on the axes.
        width: Width in inches.
        height: Height in inches, to which that of the legend is added.
        legend: False leaves out the legend.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        if legend:
            add_legend_below(figure)
        for part in (figure, *figure.axes):
            part.patch.set_visible(False)  # type: ignore[attr-defined]
        file = io.StringIO()
        # savefig would render everything twice
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    svg = file.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def add_legend_below(figure: Any) -> None:
    """Add a legend below the axes that is no wider than the figure; make the figure taller by it.

    There are as many columns as fit; a name that is too wide for a single column is wrapped.
    """
    handles = [axes.get_legend_handles_labels() for axes in figure.axes]
    lines = [line for axes_lines, _ in handles for line in axes_lines]
    names = [name for _, axes_names in handles for name in axes_names]
    if not names:
        return
    available = figure.get_figwidth() - LEGEND_MARGIN
    for columns in range(min(MAX_LEGEND_COLUMNS, len(names)), 0, -1):
        width, height = _add_legend(figure, lines, names, columns)
        if width <= available:
            break
    characters = max(map(len, names))
    while width > available and characters > 1:
        characters = min(characters - 1, int(characters * available / width))
        wrapped = [textwrap.fill(name, characters) for name in names]
        width, height = _add_legend(figure, lines, wrapped, 1)
    figure.set_figheight(figure.get_figheight() + height)


def _add_legend(
    figure: Any, lines: Sequence[Any], names: Sequence[str], columns: int
) -> tuple[float, float]:
    """Replace the figure's legend; return its width and height in inches."""
    for earlier in list(figure.legends):
        earlier.remove()
    legend = figure.legend(
        lines,
        names,
        loc="outside lower center",
        ncols=columns,
        fontsize=8.5,
        handlelength=1.6,
        columnspacing=1.2,
    )
    box = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    return box.width / figure.dpi, box.height / figure.dpi


def split_label(split: str) -> str:
    """Return the name of a split for readers, such as `out of fold`."""
    return split.replace("_", " ")


def is_flat(values: Iterable[float], tolerance: float = 0.0) -> bool:
    """Return whether a curve shows nothing: one point, or values that differ by rounding at most.

    Args:
        values: The curve.
        tolerance: The largest difference of two values that is rounding.
    """
    values = list(values)
    return len(values) < 2 or max(values) - min(values) <= tolerance


def line_style(number: int) -> dict[str, Any]:
    """Return color and dashes of curve `number`; a repeated color gets other dashes."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": ("-", "--", ":", "-.")[number // len(PALETTE) % 4],
    }
