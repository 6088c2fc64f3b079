"""Render pages from templates that share a base, a style and formats of numbers."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reporting.tables import (
    format_fraction,
    format_interval,
    format_lr,
    format_mean,
    format_number,
    format_overrides,
    format_signed,
)

FILTERS = {
    "number": format_number,
    "interval": format_interval,
    "signed": format_signed,
    "mean": format_mean,
    "rate": format_lr,
    "share": format_fraction,
    "settings": format_overrides,
}


def render(template: str, **context: Any) -> str:
    """Render a template of `reporting/templates`; text from data is escaped."""
    here = Path(__file__).parent
    loader = FileSystemLoader([here / "templates", here / "static"])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= FILTERS
    return environment.get_template(template).render(**context)
