"""How the training went: losses and score over the epochs, and which images they drew, with the stages of a curriculum marked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from callbacks.report.figures import COLOURS, INK, PALETTE, figure
from callbacks.report.metrics import per_epoch
from callbacks.report.stages import POSITIVE, label, shares_of

Stages = Sequence[dict[str, Any]]


def training_figures(run_dir: Path, score: str, stages: Stages) -> dict[str, str]:
    """Title -> SVG, nothing where nothing was trained.

    Args:
        run_dir: With metrics.csv.
        score: Such as `val/dice`.
        stages: As `read_stages` gives them.
    """
    table = per_epoch(run_dir / "metrics.csv")
    wanted = {name: table[name].dropna() for name in ("train/loss", "val/loss", score) if name in table}
    wanted = {name: curve for name, curve in wanted.items() if len(curve)}
    found = {"Learning curves": figure(lambda axes: _learning_curves(axes, wanted, score, stages))} if wanted else {}
    shares = {name: table[name].dropna() for name in shares_of(table)}
    return found | ({"What was drawn": figure(lambda axes: _drawn(axes, shares, stages))} if shares else {})


def _learning_curves(axes: Axes, wanted: dict[str, Any], score: str, stages: Stages) -> None:
    right = axes.twinx()
    for name, curve in wanted.items():
        side, colour = (right if name == score else axes), COLOURS[name.split("/")[0]]
        style = "solid" if name == score else "dashed"
        side.plot(curve.index + 1, curve, color=colour, linestyle=style, marker="o", markersize=2.5, label=name)
    axes.set_ylabel("loss (dashed)")
    axes.set_ylim(bottom=0)
    right.set(ylabel=f"{score} at the rule of its epoch", ylim=(0, 1))
    right.spines["right"].set_visible(True)
    best = [stage["best"]["epoch"] for stage in stages if score in wanted and stage["best"]["epoch"] in wanted[score].index]
    if best:
        ring: dict[str, Any] = {"color": COLOURS["test"], "fillstyle": "none", "markersize": 8, "label": "best of its stage"}
        right.plot([epoch + 1 for epoch in best], wanted[score][best], "o", **ring)
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="best")
    _over_epochs(axes, stages)


def _drawn(axes: Axes, shares: dict[str, Any], stages: Stages) -> None:
    for k, (name, curve) in enumerate(shares.items()):
        bold = name == POSITIVE
        colour = COLOURS["test"] if bold else PALETTE[1 + k % (len(PALETTE) - 1)]
        words = "positive" if bold else name.removeprefix("drawn/")
        axes.plot(curve.index + 1, curve, color=colour, linewidth=2.2 if bold else 0.9, zorder=3 if bold else 2, label=words)
    axes.set(ylabel="share of the images drawn", ylim=(0, 1.02))
    axes.legend(loc="best", ncols=1 if len(shares) < 5 else 2)
    _over_epochs(axes, stages)


def _over_epochs(axes: Axes, stages: Stages) -> None:
    """Epochs from 1 below, and a line where each stage after the first begins."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left, right = axes.get_xlim()
    starts = [stage["first_epoch"] + 0.5 for stage in stages[1:]]  # between two epochs
    late = sum(starts) > len(starts) * (left + right) / 2  # then the words stand left of their line, else right of it
    marks = list(zip(starts, map(label, stages[1:]), strict=True))
    at = axes.get_xaxis_transform()
    for row, (start, words) in enumerate(marks if late else reversed(marks)):  # in this order no line crosses the words of another
        height = 1.03 + 0.065 * row
        axes.plot([start, start], [0, height + 0.045], color=INK, linewidth=0.8, linestyle=":", alpha=0.7, transform=at, clip_on=False)
        axes.text(start, height, f"{words} " if late else f" {words}", transform=at, fontsize=8, ha="right" if late else "left")
    axes.set_xlim(left, right)
