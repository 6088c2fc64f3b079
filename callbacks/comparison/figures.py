"""Curves of several arms over epochs and over images seen, with their stages marked."""

from collections.abc import Mapping, Sequence
from itertools import count

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from callbacks.comparison.courses import EPOCH, SEEN, Course, mean_curve
from callbacks.report.figures import PALETTE, figure

DASHES = (
    (),
    (6, 2),
    (2, 1.5),
    (7, 2, 1.5, 2),
    (9, 2, 3, 2),
    (4, 1.5, 1.5, 1.5, 1.5, 1.5),
)  # on, off, ... in widths of the line
COLOURS = PALETTE[:6]
Arms = Mapping[str, Sequence[Course]]


def look(arm: int) -> tuple[str, tuple[float, ...]]:
    """Return an arm's colour and dashes; beyond six arms the colours repeat with other dashes."""
    return COLOURS[arm % 6], DASHES[(arm + arm // 6) % 6]


def key(arms: Arms) -> list[dict[str, str]]:
    """Describe each trained arm for the page's key: title, colour and dashes."""
    found = []
    for number, (name, runs) in enumerate(arms.items()):
        colour, dashes = look(number)
        if any(len(run.table) for run in runs):
            found.append(
                {
                    "title": name,
                    "colour": colour,
                    "dashes": " ".join(f"{2.5 * length:g}" for length in dashes) or "none",
                }
            )
    return found


def figures(arms: Arms, score: str) -> dict[str, str]:
    """Draw the figures: title -> SVG; a score that no arm logged has none.

    Args:
        arms: Arm -> courses of its runs.
        score: Such as `val/dice`.
    """
    found = {}
    for over in (EPOCH, SEEN):
        for name in (score, "val/loss", "train/loss"):
            if any(len(run.curve(name, over)) for runs in arms.values() for run in runs):
                found[f"{name} against {'epochs' if over == EPOCH else over}"] = figure(
                    lambda axes, n=name, o=over: _draw(axes, arms, n, o)
                )  # type: ignore[misc]
    return found


def _draw(axes: Axes, arms: Arms, score: str, over: str) -> None:
    rows = count()
    for number, runs in enumerate(arms.values()):
        colour, dashes = look(number)
        curves = [curve for curve in (run.curve(score, over) for run in runs) if len(curve)]
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
            starts = sorted({start for run in runs for start in run.starts(over)})
            if starts:
                _mark(axes, starts, colour, 1.02 + 0.035 * next(rows))
    axes.set(xlabel=over, ylabel=score)
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if over == SEEN:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _mark(axes: Axes, starts: Sequence[float], colour: str, height: float) -> None:
    """Mark starts by dotted lines and by ticks above the frame.

    Each arm has its own row of ticks, because arms often start together.
    """
    for start in starts:
        axes.axvline(start, color=colour, linewidth=0.8, linestyle=":", alpha=0.6)
        axes.plot(
            [start],
            [height],
            "|",
            color=colour,
            markersize=6,
            markeredgewidth=2,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
