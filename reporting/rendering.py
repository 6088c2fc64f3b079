"""Render pages from templates that share a base, a style and formats of numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reporting.relative_paths import hide_folders, page_folders
from reporting.tables import (
    first_upper,
    format_fraction,
    format_interval,
    format_lr,
    format_mean,
    format_number,
    format_overrides,
    format_signed,
    format_unit,
)

FILTERS = {
    "first_upper": first_upper,
    "number": format_number,
    "interval": format_interval,
    "signed": format_signed,
    "unit": format_unit,
    "mean": format_mean,
    "rate": format_lr,
    "share": format_fraction,
    "settings": format_overrides,
}

RESOURCE_LABELS = {
    "fit_seconds": "time of the fit, s",
    "train_seconds": "training time without validation, s",
    "images_trained": "images seen in training",
    "images_per_second": "training images per second",
    "cpu_utilization_percent": "CPU utilization, %",
    "gpu_utilization_percent": "GPU utilization, %",
    "peak_memory_gb": "peak memory of the process, GB",
    "gpu_peak_memory_gb": "peak GPU memory, GB",
}


def render(template: str, folders: Mapping[str, str] | None = None, **context: Any) -> str:
    """Render a template of `reporting/templates`; text from data is escaped.

    Args:
        template: File of the template.
        folders: Absolute folder -> its name on the page, in addition to the home and the current
            folder; see `page_folders`.
        **context: Values of the template.
    """
    here = Path(__file__).parent
    loader = FileSystemLoader([here / "templates", here / "static"])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= FILTERS
    environment.globals["RESOURCE_LABELS"] = RESOURCE_LABELS
    page = environment.get_template(template).render(**context)
    return hide_folders(page, page_folders(None) | dict(folders or {}))
