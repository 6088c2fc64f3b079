"""Renders a page: what all pages share are their base, their style and the words for numbers."""

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
    """A page of a folder, which extends `base.html` beside this file; all text from data is escaped."""
    loader = FileSystemLoader([folder, Path(__file__).parent])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= FILTERS
    return environment.get_template(page).render(**words)
