"""Renders pages, which share a base, a style and formats of numbers."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from callbacks.report.stages import rate, settings, share
from callbacks.report.table import interval, mean, number, signed

FILTERS = {
    "number": number,
    "interval": interval,
    "signed": signed,
    "mean": mean,
    "rate": rate,
    "share": share,
    "settings": settings,
}


def render(folder: Path, page: str = "page.html", **words: Any) -> str:
    """Render a page that extends `base.html` beside this file; text from data is escaped."""
    loader = FileSystemLoader([folder, Path(__file__).parent])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= FILTERS
    return environment.get_template(page).render(**words)
