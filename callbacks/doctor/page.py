"""The doctor's page on a terminal or in a log: the answers, then the findings, worst first."""

from collections.abc import Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callbacks.doctor.finding import CheckResult, Issue

STYLES = {"stops a run": "bold red", "warning": "yellow"}


def print_report(
    title: str,
    answers: Mapping[str, CheckResult],
    findings: list[Issue],
    seconds: float,
    file: Path,
) -> None:
    """Print the page.

    Args:
        title: The experiment.
        answers: By their checks.
        findings: In order.
        seconds: Duration of all checks.
        file: The JSON file with the same content.
    """
    console = Console()
    table = Table(
        title=f"doctor · {escape(title)}",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_header=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for answer in answers.values():
        for name, words in answer.summary.items():
            table.add_row(escape(name), escape(words))
    console.print(table)
    for position, finding in enumerate(findings, 1):
        style = STYLES[finding.severity]
        console.print(
            f"{position}. [{style}]{finding.severity}:[/] {escape(finding.message)}",
            highlight=False,
            overflow="fold",
        )
    if not findings:
        console.print("nothing is wrong")
    console.print(
        f"{seconds:.0f} s; as JSON: {escape(str(file))}",
        style="dim",
        soft_wrap=True,
        highlight=False,
    )
