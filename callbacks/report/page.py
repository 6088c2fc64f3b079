"""report.html: one self-contained page, made from report.json's content, the evidence and a few pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from callbacks.report.cases import Case
from callbacks.report.figures import figures
from callbacks.report.table import interval, number
from lightning_modules.evidence import Evidence


def write_page(found: dict[str, Any], evidence: Mapping[str, Evidence], cases: list[Case], run_dir: Path) -> Path:
    """Writes report.html into the run folder; all text from data is escaped."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": number, "interval": interval}
    rows = {kind: [case for case in cases if case.kind == kind] for kind in ("random", "worst", "best")}
    page = environment.get_template("page.html").render(
        found=found, figures=figures(evidence, run_dir), rows=rows, config=yaml.safe_dump(found["config"], sort_keys=False) if found["config"] else ""
    )
    path = run_dir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
