"""Write trials.csv and sweep.html of a hyper-parameter search."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datamodules.formats.atomic_write import atomic_write
from reporting.commands import PROGRAM
from reporting.config_diff import REPLICATE_KEYS, format_value, parse_finite_number, short_names
from reporting.figures.style import INK, PALETTE, figure
from reporting.relative_paths import page_folders
from reporting.rendering import render
from reporting.run_folder import RunFolder
from reporting.tables import spreadsheet_cell, terminal_table
from reporting.trials import (
    STATE_ORDER,
    TrialResult,
    load_trials,
    rank_trials,
    select_best_trial,
    trial_sort_key,
)

MIN_TRIALS = 5  # fewer trials with a score give no importances
# a key has a logarithmic scale if its largest value is this many times its smallest
LOG_SCALE_RATIO = 50.0


def compute_importances(trials: Sequence[TrialResult]) -> tuple[dict[str, float], str]:
    """Compute each key's share of the scores' variance, largest first, and a sentence on it.

    Args:
        trials: Trials of one multirun; those that finished count.
    """
    scored = [trial for trial in trials if trial.state == "finished" and trial.score is not None]
    varied = {key: of for key, of in infer_distributions(scored).items() if not of.single()}
    if len(scored) < MIN_TRIALS:
        return (
            {},
            (
                f"The importance of the keys needs {MIN_TRIALS} finished trials; this sweep has"
                f" {len(scored)}."
            ),
        )
    if not varied or len({trial.score for trial in scored}) == 1:
        return (
            {},
            (
                "All finished trials have the same score or the same values, so no key has a"
                " measurable importance."
            ),
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize" if scored[0].mode == "min" else "maximize")
    study.add_trials(
        [
            optuna.create_trial(
                params=_trial_params(trial, varied), distributions=dict(varied), value=trial.score
            )
            for trial in scored
        ]
    )
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return (
        found,
        (
            f"The importance is estimated from {len(scored)} finished trials. It is rough if"
            " they are few, and keys that act together share their importance."
        ),
    )


def infer_distributions(trials: Sequence[TrialResult]) -> dict[str, BaseDistribution]:
    """Infer the range or the choices that the trials' values span, for each key."""
    keys = dict.fromkeys(key for trial in trials for key in trial.varied_values)
    return {
        key: _infer_distribution([trial.varied_values.get(key, "") for trial in trials])
        for key in keys
    }


def _infer_distribution(values: Sequence[str]) -> BaseDistribution:
    numbers = [parse_finite_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return CategoricalDistribution(list(dict.fromkeys(values)))
    low, high = min(known), max(known)
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_SCALE_RATIO)


def _trial_params(
    trial: TrialResult, distributions: Mapping[str, BaseDistribution]
) -> dict[str, Any]:
    return {
        key: (
            float(trial.varied_values[key])
            if isinstance(of, FloatDistribution)
            else trial.varied_values.get(key, "")
        )
        for key, of in distributions.items()
    }


BEST_COLOR, OTHER_COLOR, PRUNED_COLOR = PALETTE[0], PALETTE[1], PALETTE[7]
MAX_TICK_LENGTH = 14  # characters of the label of a tick


def plot_history(trials: Sequence[TrialResult]) -> str:
    """Plot the score of each trial, and the best so far, as SVG."""

    def draw(axes: Axes) -> None:
        """Draw the figure on its axes."""
        scored = [(number, trial) for number, trial in enumerate(trials) if trial.score is not None]
        for state, color, mark in (("finished", OTHER_COLOR, "o"), ("pruned", PRUNED_COLOR, "x")):
            points = [(number, trial.score) for number, trial in scored if trial.state == state]
            if points:
                axes.plot(*zip(*points, strict=True), mark, color=color, label=state, markersize=5)
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
        axes.set(xlabel="number of the trial", ylabel=trials[0].monitor)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return figure(draw)


def plot_training_curves(
    trials: Sequence[TrialResult], best_trial: TrialResult | None
) -> str | None:
    """Plot the monitored score of each trial over its epochs; None if nothing was logged.

    Curves of pruned trials end in a cross.

    Args:
        trials: Trials of a sweep.
        best_trial: The best trial, which is highlighted, or None.
    """
    curves = {trial.name: _load_score_curve(trial) for trial in trials}
    if not any(len(x) for x, _ in curves.values()):
        return None

    def draw(axes: Axes) -> None:
        """Draw the figure on its axes."""
        for trial in sorted(trials, key=lambda t: t is best_trial):
            x, y = curves[trial.name]
            if len(x):
                color = (
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
                    color=color,
                    linewidth=2.2 if trial is best_trial else 0.9,
                    alpha=1.0 if trial is best_trial else 0.6,
                    marker=dots,
                )
                if trial.state == "pruned":
                    axes.plot(x[-1:], y[-1:], "x", color=color)
        if best_trial is not None:
            axes.plot([], [], color=BEST_COLOR, linewidth=2.2, label="best trial")
        if any(trial.state != "finished" for trial in trials):
            axes.plot([], [], color=PRUNED_COLOR, marker="x", label="pruned, or not finished")
        axes.set(xlabel="epoch", ylabel=trials[0].monitor)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return figure(draw)


def _load_score_curve(trial: TrialResult) -> tuple[np.ndarray, np.ndarray]:
    table = RunFolder(trial.folder).epochs()
    if trial.monitor not in table:
        return np.empty(0), np.empty(0)
    known = table[trial.monitor].dropna()
    return known.index.to_numpy() + 1, known.to_numpy()


def plot_parallel_coordinates(trials: Sequence[TrialResult]) -> str | None:
    """Plot each trial as a line through its values and its score; None below two such trials.

    Better trials have stronger lines.
    """
    scored = sorted(
        (trial for trial in trials if trial.score is not None), key=trial_sort_key, reverse=True
    )
    distributions = infer_distributions(scored)
    if len(scored) < 2 or not distributions:
        return None
    short = short_names(distributions)

    def draw(axes: Axes) -> None:
        """Draw the figure on its axes."""
        heights = {
            key: [_axis_position(trial.varied_values.get(key, ""), of) for trial in scored]
            for key, of in distributions.items()
        }
        scores = np.array([trial.score for trial in scored], float)
        low, high = float(scores.min()), float(scores.max())
        levels = (scores - low) / (high - low) if high > low else np.full(len(scores), 0.5)
        for place, trial in enumerate(scored):
            strong = (place + 1) / len(scored)
            color = (
                PRUNED_COLOR
                if trial.state == "pruned"
                else BEST_COLOR
                if place == len(scored) - 1
                else OTHER_COLOR
            )
            line = [*(heights[key][place] for key in distributions), levels[place]]
            axes.plot(
                range(len(line)),
                line,
                color=color,
                linewidth=0.6 + 1.6 * strong**3,
                alpha=0.25 + 0.75 * strong**2,
            )
        for column, (key, of) in enumerate(distributions.items()):
            _draw_value_axis(
                axes,
                column,
                _axis_ticks(of, [trial.varied_values.get(key, "") for trial in scored]),
            )
        _draw_value_axis(
            axes,
            len(distributions),
            [(0.0, f"{low:.4f}"), (1.0, f"{high:.4f}")] if high > low else [(0.5, f"{low:.4f}")],
        )
        axes.set_xticks(range(len(distributions) + 1), [*short.values(), trials[0].monitor])
        axes.set(yticks=[], xlim=(-0.15, len(distributions) + 0.55), ylim=(-0.06, 1.06))
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(axis="x", length=0)

    return figure(draw, width=min(14.0, 2.2 + 1.9 * len(distributions)), height=3.6)


def _axis_position(value: str, distribution: BaseDistribution) -> float:
    """Return the position of a value on its axis, 0 to 1."""
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
    for height, label in ticks:
        axes.annotate(
            label if len(label) <= MAX_TICK_LENGTH else label[: MAX_TICK_LENGTH - 1] + "…",
            (column, height),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )


def plot_importances(importances: Mapping[str, float]) -> str:
    """Plot the importance of each key, the largest on top, as SVG."""
    short = short_names(importances)

    def draw(axes: Axes) -> None:
        """Draw the figure on its axes."""
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
        axes.set(xlabel="share of the variance of the scores", xlim=(0, max(values) * 1.18 or 1))

    return figure(draw, height=1.1 + 0.42 * len(importances))


TRIALS_CSV = "trials.csv"
MAX_TERMINAL_ROWS = 15
OVERRIDES_COLUMN = "overrides"
UNLIMITED_WIDTH = 10_000  # characters; wide enough for any table without line breaks


def write_trials_csv(sweep_dir: Path) -> None:
    """Write trials.csv into the sweep's folder and print the table; do nothing without trials."""
    trials = rank_trials(load_trials(sweep_dir))
    if not trials:
        return
    atomic_write(
        sweep_dir / TRIALS_CSV,
        pd.DataFrame([trial_row(trial) for trial in trials])
        .map(spreadsheet_cell)
        .to_csv(index=False)
        .encode(),
    )
    _print_trials(trials, sweep_dir)


def trial_row(trial: TrialResult) -> dict[str, Any]:
    """Return a trial as a row of trials.csv; the ranking score has the name of the monitor."""
    scores = {trial.monitor: trial.score} | {
        f"test/{name}": value for name, value in trial.test.items()
    }
    return (
        {"trial": trial.name, "state": trial.state}
        | trial.varied_values
        | scores
        | {
            "trained_parameters": trial.trainable_parameters,
            "seconds": trial.seconds,
            "failure": trial.failure,
        }
    )


def _print_trials(trials: list[TrialResult], sweep_dir: Path) -> None:
    console, short = Console(), short_names(trials[0].varied_values)
    title = f"{len(trials)} trial{'s' * (len(trials) > 1)}, ranked by {trials[0].monitor}"
    title, trials = (
        (title, trials)
        if len(trials) <= MAX_TERMINAL_ROWS
        else (f"{title}: the first {MAX_TERMINAL_ROWS}", trials[:MAX_TERMINAL_ROWS])
    )
    words = [
        {short[key]: format_value(value) for key, value in trial.varied_values.items()}
        for trial in trials
    ]
    table = build_trials_table(
        title,
        [_terminal_row(trial, trials, own) for trial, own in zip(trials, words, strict=True)],
        list(short.values()),
    )
    if (
        short
        and console.measure(table, options=console.options.update(width=UNLIMITED_WIDTH)).maximum
        > console.width
    ):
        folded = [
            {OVERRIDES_COLUMN: " ".join(f"{key}={value}" for key, value in own.items())}
            for own in words
        ]
        table = build_trials_table(
            title,
            [_terminal_row(trial, trials, own) for trial, own in zip(trials, folded, strict=True)],
            [OVERRIDES_COLUMN],
        )
    console.print(table)
    console.print(f"table: {sweep_dir / TRIALS_CSV}", soft_wrap=True)


def _terminal_row(
    trial: TrialResult, trials: list[TrialResult], overrides: dict[str, str]
) -> dict[str, str]:
    """Return a trial as a row for the terminal, without columns that no trial has."""
    tested = dict.fromkeys(name for other in trials for name in other.test)
    cells = (
        {"trial": trial.name, "state": trial.state}
        | overrides
        | {trial.monitor: _format_score(trial.score)}
    )
    cells |= {f"test/{name}": _format_score(trial.test.get(name)) for name in tested}
    return cells | (
        {"time": format_duration(trial.seconds)}
        if any(other.seconds is not None for other in trials)
        else {}
    )


def _format_score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def format_duration(seconds: float | None) -> str:
    """Format seconds as `1:02:03`, or `2:03` below an hour."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes}:{rest:02d}"
        if minutes < 60
        else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    )


def build_trials_table(title: str, rows: list[dict[str, str]], folded_columns: list[str]) -> Table:
    """Build the table of the terminal; numbers are never broken over lines, long values are."""
    table = terminal_table(title)
    for name in rows[0]:
        if name in folded_columns:
            table.add_column(escape(name), overflow="fold")
        else:
            table.add_column(
                escape(name.replace("/", "/\n").replace("_", "_\n")), justify="right", no_wrap=True
            )
    for cells in rows:
        table.add_row(*(escape(cells.get(name, "–")) for name in rows[0]))
    return table


SWEEP_PAGE = "sweep.html"


def write_sweep_page(sweep_dir: Path) -> None:
    """Write the page into the sweep's folder, unless no two trials differ, and print its path."""
    trials = load_trials(sweep_dir)
    if not trials or not trials[0].varied_values:
        return
    atomic_write(sweep_dir / SWEEP_PAGE, render_sweep_page(trials, sweep_dir).encode())
    print(f"sweep: {sweep_dir / SWEEP_PAGE}")


def render_sweep_page(trials: list[TrialResult], sweep_dir: Path) -> str:
    """Render the page as HTML.

    Args:
        trials: In the order of their numbers.
        sweep_dir: The sweep's folder.
    """
    keys = short_names(trials[0].varied_values)
    replicates = [key for key in REPLICATE_KEYS if key in keys]
    first = None if replicates else select_best_trial(trials)
    shares, note = ({}, None) if replicates else compute_importances(trials)
    monitor = trials[0].monitor
    figures: dict[str, str | None] = (
        {} if replicates else {f"{monitor} by trial": plot_history(trials)}
    )
    figures |= {f"{monitor} by epoch": plot_training_curves(trials, first)} | (
        {"Importance of each key": plot_importances(shares)} if shares else {}
    )
    counted = Counter(trial.state for trial in trials)
    return render(
        "sweep.html",
        page_folders(None, sweep_dir),
        title=f"Sweep {sweep_dir.name}",
        heading=next((trial.heading for trial in trials if trial.heading), None),
        sweep=str(sweep_dir),
        phantom=any(trial.phantom for trial in trials),
        best=first,
        replicates=replicates,
        merged=(sweep_dir / "report.html").is_file(),
        command=trial_command(first) if first else None,
        monitor=monitor,
        lower=trials[0].mode == "min",
        mixed=sorted({trial.monitor for trial in trials if trial.monitor != "–"}),
        counted={state: counted[state] for state in STATE_ORDER if counted[state]},
        total=len(trials),
        keys=keys,
        figures={title: svg for title, svg in figures.items() if svg},
        parallel=None if replicates else plot_parallel_coordinates(trials),
        importance=note,
        tested=list(dict.fromkeys(name for trial in trials for name in trial.test)),
        rows=[
            (
                trial,
                format_duration(trial.seconds),
                {key: format_value(value) for key, value in trial.varied_values.items()},
            )
            for trial in rank_trials(trials)
        ],
    )


def trial_command(trial: TrialResult) -> str:
    """Return the command line that runs a trial by itself."""
    return " ".join([*PROGRAM, *map(shlex.quote, trial.overrides)])
