"""Curves of several arms over epochs and over images seen, with their stages marked."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from callbacks.comparison.courses import EPOCH, IMAGES_SEEN, TrainingCurve, mean_curve
from callbacks.report.figures import PALETTE, figure

DASHES = (
    (),
    (6, 2),
    (2, 1.5),
    (7, 2, 1.5, 2),
    (9, 2, 3, 2),
    (4, 1.5, 1.5, 1.5, 1.5, 1.5),
)  # on, off, ... in widths of the line
COLORS = PALETTE[:6]
VariantCurves = Mapping[str, Sequence[TrainingCurve]]


def line_style(variant: int) -> tuple[str, tuple[float, ...]]:
    """Return an arm's colour and dashes; beyond six arms the colours repeat with other dashes."""
    return COLORS[variant % 6], DASHES[(variant + variant // 6) % 6]


def legend_entries(variants: VariantCurves) -> list[dict[str, str]]:
    """Describe each trained arm for the page's key: title, colour and dashes."""
    found = []
    for number, (name, runs) in enumerate(variants.items()):
        colour, dashes = line_style(number)
        if any(len(run.table) for run in runs):
            found.append(
                {
                    "title": name,
                    "color": colour,
                    "dashes": " ".join(f"{2.5 * length:g}" for length in dashes) or "none",
                }
            )
    return found


def plot_curves(variants: VariantCurves, score: str) -> dict[str, str]:
    """Draw the figures: title -> SVG; a score that no arm logged has none.

    Args:
        variants: Arm -> courses of its runs.
        score: Such as `val/dice`.
    """
    found = {}
    for over in (EPOCH, IMAGES_SEEN):
        for name in (score, "val/loss", "train/loss"):
            if any(
                len(run.metric_points(name, over)) for runs in variants.values() for run in runs
            ):
                found[f"{name} against {'epochs' if over == EPOCH else over}"] = figure(
                    partial(_draw_curves, variants=variants, score=name, x_axis=over)
                )
    return found


def _draw_curves(axes: Axes, variants: VariantCurves, score: str, x_axis: str) -> None:
    rows = count()
    for number, runs in enumerate(variants.values()):
        colour, dashes = line_style(number)
        curves = [
            curve for curve in (run.metric_points(score, x_axis) for run in runs) if len(curve)
        ]
        dots = "." if max((len(curve) for curve in curves), default=0) < 15 else ""
        for curve in curves if len(curves) > 1 else []:
            axes.plot(curve["x"], curve["y"], color=colour, linewidth=0.6, alpha=0.45)
        if curves:
            mean = mean_curve(curves)
            axes.plot(
                mean["x"],
                mean["y"],
                color=colour,
                linewidth=2.2 if len(curves) > 1 else 1.8,
                dashes=dashes,
                marker=dots,
            )
            starts = sorted({start for run in runs for start in run.stage_starts(x_axis)})
            if starts:
                _mark_stage_starts(axes, starts, colour, 1.02 + 0.035 * next(rows))
    axes.set(xlabel=x_axis, ylabel=score)
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if x_axis == IMAGES_SEEN:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _mark_stage_starts(axes: Axes, starts: Sequence[float], color: str, height: float) -> None:
    """Mark starts by dotted lines and by ticks above the frame.

    Each arm has its own row of ticks, because arms often start together.
    """
    for start in starts:
        axes.axvline(start, color=color, linewidth=0.8, linestyle=":", alpha=0.6)
        axes.plot(
            [start],
            [height],
            "|",
            color=color,
            markersize=6,
            markeredgewidth=2,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
