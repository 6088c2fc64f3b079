"""Renders pages, which share a base, a style and formats of numbers."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from callbacks.report.stages import format_fraction, format_lr, format_overrides
from callbacks.report.table import format_interval, format_mean, format_number, format_signed

FILTERS = {
    "number": format_number,
    "interval": format_interval,
    "signed": format_signed,
    "mean": format_mean,
    "rate": format_lr,
    "share": format_fraction,
    "settings": format_overrides,
}


def render(folder: Path, page: str = "page.html", **words: Any) -> str:
    """Render a page that extends `base.html` beside this file; text from data is escaped."""
    loader = FileSystemLoader([folder, Path(__file__).parent])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= FILTERS
    return environment.get_template(page).render(**words)
