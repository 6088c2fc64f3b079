"""Figures of training: learning curves, strata and curriculum stages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from reporting.figures.style import (
    COLORS,
    INK,
    PALETTE,
    figure,
    is_flat,
    line_style,
)
from reporting.run_folder import RunFolder
from reporting.tables import format_stage

IMAGES, POSITIVE = "sampling/images", "sampling/positive_fraction"


def read_stages(run: RunFolder) -> list[dict[str, Any]]:
    """Return the stages of a run with the `last_epoch` and the `sampled` images of each.

    The list is empty without a curriculum. Epochs count from 0. `sampled` holds the number of
    images sampled in the stage and their shares.
    """
    if not run.stages:
        return []
    table = run.epochs()
    return [_add_sampling(stage, table) for stage in run.stages]


def _add_sampling(stage: dict[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    last = max((score["epoch"] for score in stage["scores"]), default=stage["first_epoch"])
    best = stage.get("best") or {"epoch": None, "score": None}
    return stage | {
        "last_epoch": last,
        "best": best,
        "sampled": stage_sampling(
            table[(table.index >= stage["first_epoch"]) & (table.index <= last)]
        ),
    }


def stage_sampling(rows: pd.DataFrame) -> dict[str, float]:
    """Return the number of images sampled, and shares of them over all epochs."""
    if IMAGES not in rows or rows[IMAGES].notna().sum() == 0:
        return {}
    rows = rows[rows[IMAGES].notna()]
    images = rows[IMAGES]
    shares = {
        name: float((rows[name] * images).sum() / images.sum()) for name in stratum_fractions(rows)
    }
    return {"images": float(images.sum())} | {
        name.removeprefix("sampling/"): share for name, share in shares.items()
    }


def stratum_fractions(table: pd.DataFrame) -> list[str]:
    """Return the columns that are shares of the sampled images, that of positives first."""
    named = [
        name
        for name in table.columns.astype(str)
        if name.startswith("sampling/") and name != IMAGES and table[name].notna().any()
    ]
    return sorted(named, key=lambda name: name != POSITIVE)


MAX_STRATA = 8  # strata that a figure shows
NO_STRATA = ("images", "positive_fraction")


def stratum_curves(table: pd.DataFrame) -> list[str]:
    """Return the columns of the figure: positives and, unless too many, the strata."""
    names = stratum_fractions(table)
    return [name for name in names if name == POSITIVE] if _enough_strata(names) else names


def strata_table(run_dir: Path, stages: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return column -> stratum -> share of the images; empty if the figure shows the strata.

    Args:
        run_dir: Run folder with metrics.csv.
        stages: Stages from `read_stages`, a column each; without any, the first and the last epoch
            have a column.
    """
    table = RunFolder(run_dir).epochs()
    if not _enough_strata(stratum_fractions(table)):
        return {}
    ends = {
        f"epoch {table.index[row] + 1}": stage_sampling(table.iloc[[row]])
        for row in (0, -1)
        if len(table) > 1
    }
    columns = {"all epochs": stage_sampling(table)} | (
        {f"stage {stage['stage']}": stage["sampled"] for stage in stages} or ends
    )
    return {
        title: {name: share for name, share in shares.items() if name not in NO_STRATA}
        for title, shares in columns.items()
    }


def _enough_strata(names: Sequence[str]) -> bool:
    return len([name for name in names if name != POSITIVE]) > MAX_STRATA


Stages = Sequence[dict[str, Any]]
LOSSES = ("train/loss", "val/loss")
SECOND_CURVE_COLOR = PALETTE[3]  # color of a score that is not monitored


def training_figures(run_dir: Path, monitor: str, score: str, stages: Stages) -> dict[str, str]:
    """Return title -> SVG; a figure whose curves are all constant is left out.

    Args:
        run_dir: Run folder with metrics.csv.
        monitor: The score by which the best epoch was chosen, such as `val/average_precision`.
        score: A second score to plot, such as `val/dice`.
        stages: Stages from `read_stages`.
    """
    table = RunFolder(run_dir).epochs()
    wanted = {
        name: table[name].dropna()
        for name in dict.fromkeys((*LOSSES, monitor, score))
        if name in table
    }
    wanted = {name: curve for name, curve in wanted.items() if len(curve)}
    found = (
        {"Learning curves": figure(lambda axes: learning_curves(axes, wanted, monitor, stages))}
        if any(not is_flat(curve) for curve in wanted.values())
        else {}
    )
    shares = {name: table[name].dropna() for name in stratum_curves(table)}
    tolerance = 2 / table[IMAGES].max() if IMAGES in table else 0.0  # one image more, one less
    return found | (
        {"Sampled images": figure(lambda axes: sampled_fractions(axes, shares, stages))}
        if any(not is_flat(curve, tolerance) for curve in shares.values())
        else {}
    )


def learning_curves(axes: Axes, wanted: dict[str, Any], monitor: str, stages: Stages) -> None:
    """Plot losses on the left axis and scores on the right; a score not monitored is thin."""
    right = axes.twinx()
    scores = [name for name in wanted if name not in LOSSES]
    for name, curve in wanted.items():
        side, beside = (
            (axes if name in LOSSES else right),
            name != monitor and name in scores and monitor in scores,
        )
        color, style = (
            (SECOND_CURVE_COLOR if beside else COLORS.get(name.split("/")[0], INK)),
            ("dashed" if name in LOSSES else "solid"),
        )
        words, width = (f"{name} (monitored)" if name == monitor else name), (1 if beside else 1.8)
        side.plot(
            curve.index + 1,
            curve,
            color=color,
            linestyle=style,
            linewidth=width,
            marker="o",
            markersize=2.5,
            label=words,
        )
    axes.set_ylabel("loss (dashed lines)")
    axes.set_ylim(bottom=0)
    ends = [end for name in scores for end in (wanted[name].min(), wanted[name].max())]
    words = (
        f"{scores[0]} (rule of its epoch)" if len(scores) == 1 else "scores (rule of their epoch)"
    )
    right.set(ylabel=words, ylim=(min(0, *ends), max(1, *ends)) if ends else (0, 1))
    right.spines["right"].set_visible(True)
    best = [
        stage["best"]["epoch"]
        for stage in stages
        if monitor in wanted and stage["best"]["epoch"] in wanted[monitor].index
    ]
    if best:
        ring: dict[str, Any] = {
            "color": COLORS["test"],
            "fillstyle": "none",
            "markersize": 8,
            "label": "best epoch of its stage",
        }
        (axes if monitor in LOSSES else right).plot(
            [epoch + 1 for epoch in best], wanted[monitor][best], "o", **ring
        )
    _draw_over_epochs(axes, stages)


def sampled_fractions(axes: Axes, shares: dict[str, Any], stages: Stages) -> None:
    """Plot the share of positives in bold and that of each stratum thin."""
    for k, (name, curve) in enumerate(shares.items()):
        bold = name == POSITIVE
        style = (
            line_style(0) if bold else line_style(k if k < len(PALETTE) else k + 1)
        )  # the color of the positives is theirs alone
        words = "positive" if bold else name.removeprefix("sampling/")
        axes.plot(
            curve.index + 1,
            curve,
            linewidth=2.2 if bold else 1,
            zorder=3 if bold else 2,
            label=words,
            **style,
        )
    axes.set(ylabel="share of the sampled images", ylim=(0, 1.02))
    _draw_over_epochs(axes, stages)


def _draw_over_epochs(axes: Axes, stages: Stages) -> None:
    """Number epochs from 1, and mark where each stage after the first begins."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left, right = axes.get_xlim()
    starts = [stage["first_epoch"] + 0.5 for stage in stages[1:]]  # between two epochs
    # labels of late stages are left of their line, those of early ones right of it
    late = sum(starts) > len(starts) * (left + right) / 2
    marks = list(zip(starts, map(format_stage, stages[1:]), strict=True))
    at = axes.get_xaxis_transform()
    # in this order no line crosses the label of another
    for row, (start, words) in enumerate(marks if late else reversed(marks)):
        height = 1.03 + 0.065 * row
        axes.plot(
            [start, start],
            [0, height + 0.045],
            color=INK,
            linewidth=0.8,
            linestyle=":",
            alpha=0.7,
            transform=at,
            clip_on=False,
        )
        axes.text(
            start,
            height,
            f"{words} " if late else f" {words}",
            transform=at,
            fontsize=8,
            ha="right" if late else "left",
        )
    axes.set_xlim(left, right)
