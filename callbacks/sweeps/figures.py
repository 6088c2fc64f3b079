"""Figures of a sweep's page: scores in the order of trials, the course of each, all values beside each other, and which key matters."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from callbacks.report.figures import INK, PALETTE, figure, legend_below
from callbacks.report.metrics import read_epochs
from callbacks.sweeps.importance import infer_distributions
from callbacks.sweeps.tried import TrialResult, trial_sort_key
from callbacks.sweeps.words import format_value, short_names

BEST_COLOR, OTHER_COLOR, PRUNED_COLOR = PALETTE[0], PALETTE[1], PALETTE[7]
MAX_TICK_LENGTH = 14  # characters of a tick


def plot_history(trials: Sequence[TrialResult]) -> str:
    """The score of each trial, and the best so far, as SVG."""

    def draw(axes: Axes) -> None:
        scored = [(number, trial) for number, trial in enumerate(trials) if trial.score is not None]
        for state, colour, mark in (("finished", OTHER_COLOR, "o"), ("pruned", PRUNED_COLOR, "x")):
            points = [(number, trial.score) for number, trial in scored if trial.state == state]
            if points:
                axes.plot(*zip(*points, strict=True), mark, color=colour, label=state, markersize=5)
        done = [
            (number, float(trial.score))
            for number, trial in scored
            if trial.state == "finished" and trial.score is not None
        ]
        if done:
            better = np.minimum if trials[0].mode == "min" else np.maximum
            reached = better.accumulate([score for _, score in done])
            axes.step(
                [number for number, _ in done],
                reached,
                where="post",
                color=BEST_COLOR,
                label="best so far",
                linewidth=1.6,
            )
        lost = [number for number, trial in enumerate(trials) if trial.score is None]
        if lost:
            axes.plot(
                lost,
                np.full(len(lost), 0.02),
                "|",
                color=BEST_COLOR,
                transform=axes.get_xaxis_transform(),
                label="no score",
                markersize=8,
            )
        axes.set(xlabel="trial", ylabel=trials[0].monitor)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(axes, *axes.get_legend_handles_labels(), columns=4)

    return figure(draw)


def plot_training_curves(
    trials: Sequence[TrialResult], best_trial: TrialResult | None
) -> str | None:
    """The monitored score of each trial over its epochs; pruned ones end in a cross. None where nothing was logged.

    Args:
        trials: Of a sweep.
        best_trial: The best, where one is; it stands out.
    """
    curves = {trial.name: _load_score_curve(trial) for trial in trials}
    if not any(len(x) for x, _ in curves.values()):
        return None

    def draw(axes: Axes) -> None:
        for trial in sorted(trials, key=lambda t: t is best_trial):
            x, y = curves[trial.name]
            if len(x):
                colour = (
                    BEST_COLOR
                    if trial is best_trial
                    else PRUNED_COLOR
                    if trial.state != "finished"
                    else OTHER_COLOR
                )
                dots = "." if len(x) < 3 else ""
                axes.plot(
                    x,
                    y,
                    color=colour,
                    linewidth=2.2 if trial is best_trial else 0.9,
                    alpha=1.0 if trial is best_trial else 0.6,
                    marker=dots,
                )
                if trial.state == "pruned":
                    axes.plot(x[-1:], y[-1:], "x", color=colour)
        if best_trial is not None:
            axes.plot([], [], color=BEST_COLOR, linewidth=2.2, label="best trial")
        if any(trial.state != "finished" for trial in trials):
            axes.plot([], [], color=PRUNED_COLOR, marker="x", label="pruned, or not finished")
        axes.set(xlabel="epoch", ylabel=trials[0].monitor)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            legend_below(axes, *axes.get_legend_handles_labels(), columns=2)

    return figure(draw)


def _load_score_curve(trial: TrialResult) -> tuple[np.ndarray, np.ndarray]:
    table = read_epochs(trial.folder / "metrics.csv")
    if trial.monitor not in table:
        return np.empty(0), np.empty(0)
    known = table[trial.monitor].dropna()
    return known.index.to_numpy() + 1, known.to_numpy()


def plot_parallel_coordinates(trials: Sequence[TrialResult]) -> str | None:
    """Each trial as a line through its values and its score, the better the stronger. None where no trial has a score."""
    scored = sorted(
        (trial for trial in trials if trial.score is not None), key=trial_sort_key, reverse=True
    )
    drawn = infer_distributions(scored)
    if not scored or not drawn:
        return None
    short = short_names(drawn)

    def draw(axes: Axes) -> None:
        heights = {
            key: [_axis_position(trial.varied_values.get(key, ""), of) for trial in scored]
            for key, of in drawn.items()
        }
        scores = np.array([trial.score for trial in scored], float)
        low, high = float(scores.min()), float(scores.max())
        levels = (scores - low) / (high - low) if high > low else np.full(len(scores), 0.5)
        for place, trial in enumerate(scored):
            strong = (place + 1) / len(scored)
            colour = (
                PRUNED_COLOR
                if trial.state == "pruned"
                else BEST_COLOR
                if place == len(scored) - 1
                else OTHER_COLOR
            )
            line = [*(heights[key][place] for key in drawn), levels[place]]
            axes.plot(
                range(len(line)),
                line,
                color=colour,
                linewidth=0.6 + 1.6 * strong**3,
                alpha=0.25 + 0.75 * strong**2,
            )
        for column, (key, of) in enumerate(drawn.items()):
            _draw_value_axis(
                axes,
                column,
                _axis_ticks(of, [trial.varied_values.get(key, "") for trial in scored]),
            )
        _draw_value_axis(
            axes,
            len(drawn),
            [(0.0, f"{low:.4f}"), (1.0, f"{high:.4f}")] if high > low else [(0.5, f"{low:.4f}")],
        )
        axes.set_xticks(range(len(drawn) + 1), [*short.values(), trials[0].monitor])
        axes.set(yticks=[], xlim=(-0.15, len(drawn) + 0.55), ylim=(-0.06, 1.06))
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(axis="x", length=0)

    return figure(draw, width=min(14.0, 2.2 + 1.9 * len(drawn)), height=3.6)


def _axis_position(value: str, distribution: BaseDistribution) -> float:
    """Where a value stands on its axis, 0 to 1."""
    if isinstance(distribution, CategoricalDistribution):
        return (
            distribution.choices.index(value) / (len(distribution.choices) - 1)
            if len(distribution.choices) > 1
            else 0.5
        )
    if not isinstance(distribution, FloatDistribution) or distribution.low == distribution.high:
        return 0.5
    number, low, high = (
        np.log([float(value), distribution.low, distribution.high])
        if distribution.log
        else (float(value), distribution.low, distribution.high)
    )
    return float((number - low) / (high - low))


def _axis_ticks(distribution: BaseDistribution, values: Sequence[str]) -> list[tuple[float, str]]:
    shown = list(dict.fromkeys(values))
    if isinstance(distribution, FloatDistribution) and len(shown) > 5:
        shown = [repr(distribution.low), repr(distribution.high)]
    return [(_axis_position(value, distribution), format_value(value)) for value in shown]


def _draw_value_axis(axes: Axes, column: int, ticks: Sequence[tuple[float, str]]) -> None:
    axes.axvline(column, color=INK, linewidth=0.8, alpha=0.5)
    for height, said in ticks:
        told = said if len(said) <= MAX_TICK_LENGTH else said[: MAX_TICK_LENGTH - 1] + "…"
        axes.annotate(
            told,
            (column, height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )


def plot_importances(importances: Mapping[str, float]) -> str:
    """Importance of each key, the largest on top, as SVG."""
    short = short_names(importances)

    def draw(axes: Axes) -> None:
        names, values = [short[key] for key in importances][::-1], list(importances.values())[::-1]
        axes.barh(names, values, color=OTHER_COLOR, height=0.6)
        for place, value in enumerate(values):
            axes.annotate(
                f"{value:.2f}",
                (value, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.set(xlabel="share of the scores' variance", xlim=(0, max(values) * 1.18 or 1))

    return figure(draw, height=1.1 + 0.42 * len(importances))
