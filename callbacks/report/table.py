"""The short table that a run ends with."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_table(found: dict[str, Any], page: Path) -> None:
    """Test scores with intervals, what no skill would score, and where the page is."""
    console = Console()
    judged = found["judged"]
    for name, scores in found["scores"][judged].items():
        table = Table(title=escape(f"{found['title']} · {judged} · {name}"), title_justify="left")
        for column in ("score", "value", "95 % interval", "n", "all empty", "all positive"):
            table.add_column(column, justify="left" if column == "score" else "right")
        for score, value in scores.items():
            table.add_row(score, number(value["value"]), interval(value), str(value["n"]), number(value["all_empty"]), number(value["all_positive"]))
        console.print(table)
    console.print(found["caveat"][judged], style="dim")
    alike = found["data"]["near_duplicates"]["test_images"]
    if alike:
        rest = found["scores"].get("test_without_lookalikes", {})
        scored = "; ".join(f"on the others Dice is {number(s['dice']['value'])} (n = {s['dice']['n']})" for s in rest.values())
        console.print(
            f"{len(alike)} test images stand in train or val too, nearly the same; {scored or 'no test image is free of them'}", style="yellow"
        )
    console.print(f"page: {page}", soft_wrap=True)


def number(value: float | None) -> str:
    """Four decimals, or a dash for what is undefined."""
    return "–" if value is None or value != value else f"{value:.4f}"


def interval(value: dict[str, Any]) -> str:
    """`low – high`, or a dash."""
    return "–" if value["low"] is None else f"{value['low']:.4f} – {value['high']:.4f}"
