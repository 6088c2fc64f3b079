"""report.html: one self-contained page, made from report.json's content, the evidence and a few pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from callbacks.report.cases import Case
from callbacks.report.figures import learning_curves
from callbacks.report.kinds import KINDS
from callbacks.report.table import interval, number
from lightning_modules.evidence import Evidence


def write_page(found: dict[str, Any], evidence: Mapping[str, Evidence], cases: list[Case], run_dir: Path) -> Path:
    """Writes report.html into the run folder; all text from data is escaped."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": number, "interval": interval}
    kind, score = KINDS[found["kind"]], f"val/{found['heads'][0]}"
    figures = {"Learning curves": learning_curves(run_dir / "metrics.csv", score)} | kind.figures(evidence)
    rows = {name: [case for case in cases if case.kind == name] for name in dict.fromkeys(case.kind for case in cases)}
    config = yaml.safe_dump(found["config"], sort_keys=False) if found["config"] else ""
    figures = {title: svg for title, svg in figures.items() if svg}
    page = environment.get_template("page.html").render(found=found, kind=kind, rows=rows, figures=figures, config=config)
    path = run_dir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path
