"""Prints the short table that ends a run."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightning_modules.uncertainty import MEAN


def print_table(found: dict[str, Any], page: Path) -> None:
    """Print the test scores with intervals, trivial baselines, and the path of the page."""
    console = Console()
    judged = found["judged"]
    classes = found["scores"][judged]
    for name, scores in classes.items() if len(classes) == 1 else [(MEAN, classes[MEAN])]:
        console.print(_build_score_table(f"{found['title']} · {judged} · {name}", scores))
    console.print(found["caveat"][judged], style="dim")
    alike = found["data"]["near_duplicates"]["test_images"]
    if alike:
        rest = found["scores"].get("test_without_lookalikes", {})
        head = found["heads"][0]
        last = list(rest.values())[-1:]  # of several classes their mean
        scored = "".join(
            f"on the others {head} is {format_number(s[head]['value'])} (n = {s[head]['n']})"
            for s in last
        )
        console.print(
            f"{len(alike)} test images stand in train or val too, nearly the same;"
            f" {scored or 'no test image is free of them'}",
            style="yellow",
        )
    console.print(f"page: {page}", soft_wrap=True)


def _build_score_table(title: str, scores: dict[str, Any]) -> Table:
    baselines = list(next(iter(scores.values()))["trivial"])
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("score", "value", "95 % interval", "n", *baselines):
        whole = column in ("score", "95 % interval")
        longest = max(map(len, [column] if whole else column.split()))
        table.add_column(
            column,
            justify="left" if column == "score" else "right",
            no_wrap=whole,
            min_width=longest,
        )
    for score, value in scores.items():
        table.add_row(
            score,
            format_number(value["value"]),
            format_interval(value),
            str(value["n"]),
            *map(format_number, value["trivial"].values()),
        )
    return table


def format_number(value: float | None) -> str:
    """Format with four decimals, or a dash if undefined."""
    return "–" if value is None or value != value else f"{value:.4f}"


def format_interval(value: dict[str, Any]) -> str:
    """Format as `low – high`, or a dash."""
    return "–" if value["low"] is None else f"{value['low']:.4f} – {value['high']:.4f}"


def format_signed(gap: dict[str, Any]) -> str:
    """Format a difference with its interval, if it has one."""
    span = f" [{gap['low']:+.4f}, {gap['high']:+.4f}]" if gap["low"] is not None else ""
    return f"{gap['value']:+.4f}{span}"


def format_mean(value: float | None) -> str:
    """Format a mean with one decimal, or none if it is whole."""
    return "–" if value is None else f"{value:,.1f}".removesuffix(".0")
