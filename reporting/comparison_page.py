"""The page of a comparison: learning curves over epochs and images seen, and tables.

The comparison itself is in `reporting/comparison.py`, which imports neither pandas nor matplotlib.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from os.path import commonpath
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from reporting.figures.style import PALETTE, figure, is_flat
from reporting.figures.training import IMAGES, read_stages
from reporting.relative_paths import page_folders
from reporting.rendering import render
from reporting.run_folder import RunFolder

EPOCH, IMAGES_SEEN = "epoch", "images seen"


@dataclass(frozen=True)
class TrainingCurve:
    """Training curves of one run.

    Attributes:
        table: Epoch (from 0) -> what was logged, `epoch` (from 1) and `images seen` at its end; the
            latter NaN where it is not known.
        stages: As `read_stages` gives them.
    """

    table: pd.DataFrame
    stages: list[dict[str, Any]]

    def metric_points(self, score: str, x_axis: str) -> pd.DataFrame:
        """Return x (`epoch` or `images seen`) and y (a score) of the epochs with both known."""
        if score not in self.table:
            return pd.DataFrame({"x": [], "y": []})
        return pd.DataFrame({"x": self.table[x_axis], "y": self.table[score]}).dropna()

    def stage_starts(self, x_axis: str) -> list[float]:
        """Return where each stage after the first begins; for `epoch` halfway between two."""
        found = []
        for stage in self.stages[1:]:
            before = stage["first_epoch"] - 1
            if before in self.table.index and pd.notna(self.table[x_axis][before]):
                found.append(float(self.table[x_axis][before]) + (0.5 if x_axis == EPOCH else 0.0))
        return found


def load_curve(run: RunFolder) -> TrainingCurve:
    """Read the training curves of a run; there are no epochs if metrics.csv is missing."""
    table = run.epochs()
    if len(table):
        table = table.assign(epoch=table.index.to_numpy() + 1).assign(
            **{IMAGES_SEEN: count_images_seen(table, run.report)}
        )
    return TrainingCurve(table, read_stages(run))


def count_images_seen(table: pd.DataFrame, report: Mapping[str, Any]) -> pd.Series:
    """Count the images trained on by the end of each epoch.

    Adds up the images that were logged as sampled; without that log each epoch has an equal share
    of all images trained on. NaN where the table does not begin with the first epoch, as after
    resuming from another run.
    """
    trained = (report.get("resources") or {}).get("images_trained")
    if list(table.index) != list(range(len(table))):
        each = pd.Series(float("nan"), table.index)
    elif IMAGES in table and table[IMAGES].notna().all():
        each = table[IMAGES]
    else:
        each = pd.Series(float("nan") if trained is None else trained / len(table), table.index)
    return each.cumsum()


def load_curves(variants: Mapping[str, Sequence[RunFolder]]) -> dict[str, list[TrainingCurve]]:
    """Load the training curves of each variant's runs."""
    return {name: [load_curve(run) for run in runs] for name, runs in variants.items()}


def variants_without_image_count(variants: Mapping[str, Sequence[TrainingCurve]]) -> list[str]:
    """List the variants with a run that was trained here on an unknown number of images."""
    return [
        name
        for name, runs in variants.items()
        if any(len(run.table) and run.table[IMAGES_SEEN].isna().any() for run in runs)
    ]


def mean_curve(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average x and y over all curves, in the epochs that all of them have."""
    by_epoch = pd.concat(curves).groupby(level=0)
    return by_epoch.mean()[by_epoch.size() == len(curves)]


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
    """Return a variant's color and dashes; after six, colors repeat with other dashes."""
    return COLORS[variant % 6], DASHES[(variant + variant // 6) % 6]


def legend_entries(variants: VariantCurves) -> list[dict[str, str]]:
    """Describe each trained variant for the page's key: title, color and dashes."""
    found = []
    for number, (name, runs) in enumerate(variants.items()):
        color, dashes = line_style(number)
        if any(len(run.table) for run in runs):
            found.append(
                {
                    "title": name,
                    "color": color,
                    "dashes": " ".join(f"{2.5 * length:g}" for length in dashes) or "none",
                }
            )
    return found


def plot_curves(variants: VariantCurves, score: str) -> dict[str, str]:
    """Return title -> SVG; scores that no variant logged or that never change are left out.

    Args:
        variants: Variant -> curves of its runs.
        score: Name of the score, such as `val/dice`.
    """
    found = {}
    for over in (EPOCH, IMAGES_SEEN):
        for name in (score, "val/loss", "train/loss"):
            if any(
                not is_flat(run.metric_points(name, over)["y"])
                for runs in variants.values()
                for run in runs
            ):
                found[f"{name} against {'epochs' if over == EPOCH else over}"] = figure(
                    partial(_draw_curves, variants=variants, score=name, x_axis=over)
                )
    return found


def _draw_curves(axes: Axes, variants: VariantCurves, score: str, x_axis: str) -> None:
    rows = count()
    for number, runs in enumerate(variants.values()):
        color, dashes = line_style(number)
        curves = [
            curve for curve in (run.metric_points(score, x_axis) for run in runs) if len(curve)
        ]
        dots = "." if max((len(curve) for curve in curves), default=0) < 15 else ""
        for curve in curves if len(curves) > 1 else []:
            axes.plot(curve["x"], curve["y"], color=color, linewidth=0.6, alpha=0.45)
        if curves:
            mean = mean_curve(curves)
            axes.plot(
                mean["x"],
                mean["y"],
                color=color,
                linewidth=2.2 if len(curves) > 1 else 1.8,
                dashes=dashes,
                marker=dots,
            )
            starts = sorted({start for run in runs for start in run.stage_starts(x_axis)})
            if starts:
                _mark_stage_starts(axes, starts, color, 1.02 + 0.035 * next(rows))
    axes.set(xlabel=x_axis, ylabel=score)
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    if x_axis == IMAGES_SEEN:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _mark_stage_starts(axes: Axes, starts: Sequence[float], color: str, height: float) -> None:
    """Mark starts by dotted lines and by ticks above the frame.

    Each variant has its own row of ticks, because variants often start together.
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


def render_comparison(
    comparison: dict[str, Any],
    variants: dict[str, list[RunFolder]],
    table: Sequence[Mapping[str, Any]],
) -> str:
    """Render the page as HTML.

    Args:
        comparison: Content of comparison.json.
        variants: Name of a variant -> its runs.
        table: Rows of the runs.
    """
    curves = load_curves(variants)
    words = {
        "title": "Comparison",
        "heading": comparison["heading"],
        "phantom": comparison["phantom"],
        "key": legend_entries(curves),
        "uncounted": variants_without_image_count(curves),
        "board": table,
    }
    return render(
        "comparison.html",
        _common_folder(comparison),
        found=comparison,
        figures=plot_curves(curves, f"val/{comparison['ranked_by']}"),
        **words,
    )


def _common_folder(comparison: dict[str, Any]) -> dict[str, str]:
    """Return the folder that holds all compared runs, whose name on the page is `.`."""
    runs = [Path(run).absolute() for variant in comparison["variants"] for run in variant["runs"]]
    return page_folders(None, Path(commonpath([run.parent for run in runs])))
