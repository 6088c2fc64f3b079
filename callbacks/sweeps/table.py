"""trials.csv of a multirun, and the same on the terminal: one line a trial, ranked by the monitored score."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callbacks.sweeps.tried import Tried, ranked, trials_of
from callbacks.sweeps.words import short_names, shortened
from datamodules.whole_file import write_whole

NAME = "trials.csv"
SHOWN = 15  # lines on the terminal
WORDS = "words"
WIDE = 10_000  # characters, in which any table stands unfolded


def write(sweep: Path) -> None:
    """Writes trials.csv into the sweep's folder and prints the table; nothing of a folder without trials."""
    trials = ranked(trials_of(sweep))
    if not trials:
        return
    write_whole(
        sweep / NAME, pd.DataFrame([line(trial) for trial in trials]).to_csv(index=False).encode()
    )
    _print(trials, sweep)


def line(trial: Tried) -> dict[str, Any]:
    """A trial as a line of trials.csv; the score that ranks is named as it was monitored."""
    scores = {trial.monitor: trial.score} | {
        f"test/{name}": value for name, value in trial.test.items()
    }
    return (
        {"trial": trial.name, "state": trial.state}
        | trial.words
        | scores
        | {"trained_parameters": trial.trained, "seconds": trial.seconds, "failure": trial.failure}
    )


def _print(trials: list[Tried], sweep: Path) -> None:
    console, short = Console(), short_names(trials[0].words)
    title = f"{len(trials)} trial{'s' * (len(trials) > 1)}, ranked by {trials[0].monitor}"
    title, trials = (
        (title, trials) if len(trials) <= SHOWN else (f"{title}: the first {SHOWN}", trials[:SHOWN])
    )
    words = [
        {short[key]: shortened(value) for key, value in trial.words.items()} for trial in trials
    ]
    table = trials_table(
        title,
        [_cells(trial, trials, own) for trial, own in zip(trials, words, strict=True)],
        list(short.values()),
    )
    if (
        short
        and console.measure(table, options=console.options.update(width=WIDE)).maximum
        > console.width
    ):
        folded = [
            {WORDS: " ".join(f"{key}={value}" for key, value in own.items())} for own in words
        ]
        table = trials_table(
            title,
            [_cells(trial, trials, own) for trial, own in zip(trials, folded, strict=True)],
            [WORDS],
        )
    console.print(table)
    console.print(f"table: {sweep / NAME}", soft_wrap=True)


def _cells(trial: Tried, trials: list[Tried], words: dict[str, str]) -> dict[str, str]:
    """A trial as a line of the terminal's table; a number that no trial has is no column."""
    tested = dict.fromkeys(name for other in trials for name in other.test)
    cells = (
        {"trial": trial.name, "state": trial.state} | words | {trial.monitor: _number(trial.score)}
    )
    cells |= {f"test/{name}": _number(trial.test.get(name)) for name in tested}
    return cells | (
        {"time": duration(trial.seconds)}
        if any(other.seconds is not None for other in trials)
        else {}
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def duration(seconds: float | None) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes}:{rest:02d}"
        if minutes < 60
        else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    )


def trials_table(title: str, lines: list[dict[str, str]], words: list[str]) -> Table:
    """For the terminal: numbers and their heads keep their width, words are folded where the terminal is narrow."""
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in lines[0]:
        if name in words:
            table.add_column(escape(name), overflow="fold")
        else:
            table.add_column(
                escape(name.replace("/", "/\n").replace("_", "_\n")), justify="right", no_wrap=True
            )
    for cells in lines:
        table.add_row(*(escape(cells.get(name, "–")) for name in lines[0]))
    return table
