"""Writes report.html, one self-contained page, from report.json, evidence and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from callbacks.report.cases import Case
from callbacks.report.embedded import build_page_data, has_threshold
from callbacks.report.figures import COLORS
from callbacks.report.kinds import TASK_VIEWS
from callbacks.report.packed import as_json
from callbacks.report.section import Section
from callbacks.report.strata import strata_table
from callbacks.report.template import render
from callbacks.report.training_figures import training_figures
from datamodules.whole_file import atomic_write
from lightning_modules.evidence import Evidence


def write_page(
    found: dict[str, Any],
    evidence: Mapping[str, Evidence],
    cases: list[Case],
    run_dir: Path,
    sections: Sequence[Section] = (),
) -> Path:
    """Write report.html into the run folder; all text from data is escaped.

    Args:
        found: Content of report.json.
        evidence: Split -> evidence.
        cases: Cases with their pictures.
        run_dir: The run folder.
        sections: Sections of other callbacks.
    """
    kind, score = TASK_VIEWS[found["kind"]], f"val/{found['heads'][0]}"
    settings = found["config"] or {}
    monitor = settings.get("monitor", {}).get("name", score)
    stages = found.get("stages", [])
    figures = training_figures(run_dir, monitor, score, stages) | kind.figures(evidence)
    config = yaml.safe_dump(settings, sort_keys=False) if settings else ""
    judged = evidence[found["judged"]]
    classes, script = judged.classes, build_page_data(kind, judged, cases)
    pictures = {
        "cases": cases,
        "classes": classes,
        "moves": has_threshold(judged),
        "notes": dict.fromkeys(of_class["note"] for of_class in script["of"] if of_class["note"]),
        "embedded": as_json(script),
        "panels": kind.panels(evidence),
        "strata": strata_table(run_dir, stages),
        "chips": kind.class_tags(classes),
        "legend": kind.legend[len(classes) > 1],
        "colours": COLORS,
    }
    words = {"title": found["title"], "phantom": found["data"]["phantom"], "monitor": monitor}
    page = render(
        Path(__file__).parent,
        found=found,
        kind=kind,
        figures=figures,
        sections=sections,
        config=config,
        **pictures,
        **words,
    )
    path = run_dir / "report.html"
    atomic_write(path, page.encode())
    return path


def write_predicted(title: str, phantom: bool, run_dir: Path, sections: Sequence[Section]) -> Path:
    """Write a report.html of sections alone, for a run without a test."""
    path = run_dir / "report.html"
    atomic_write(
        path,
        render(
            Path(__file__).parent, "predicted.html", title=title, phantom=phantom, sections=sections
        ).encode(),
    )
    return path
