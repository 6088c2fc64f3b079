"""trials.csv of a multirun, and the same on the terminal: one line a trial, ranked by the monitored score."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callbacks.sweeps.tried import TrialResult, load_trials, rank_trials
from callbacks.sweeps.words import format_value, short_names
from datamodules.whole_file import atomic_write

TRIALS_CSV = "trials.csv"
MAX_TERMINAL_ROWS = 15  # lines on the terminal
OVERRIDES_COLUMN = "words"
UNLIMITED_WIDTH = 10_000  # characters, in which any table stands unfolded


def write_trials_csv(sweep_dir: Path) -> None:
    """Writes trials.csv into the sweep's folder and prints the table; nothing of a folder without trials."""
    trials = rank_trials(load_trials(sweep_dir))
    if not trials:
        return
    atomic_write(
        sweep_dir / TRIALS_CSV,
        pd.DataFrame([trial_row(trial) for trial in trials]).to_csv(index=False).encode(),
    )
    _print_trials(trials, sweep_dir)


def trial_row(trial: TrialResult) -> dict[str, Any]:
    """A trial as a line of trials.csv; the score that ranks is named as it was monitored."""
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
    """A trial as a line of the terminal's table; a number that no trial has is no column."""
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
    """`1:02:03`, or `2:03` below an hour."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes}:{rest:02d}"
        if minutes < 60
        else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    )


def build_trials_table(title: str, rows: list[dict[str, str]], folded_columns: list[str]) -> Table:
    """For the terminal: numbers and their heads keep their width, words are folded where the terminal is narrow."""
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
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
