"""Write report.html: the context of its template and the data embedded in it."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datamodules.formats.atomic_write import atomic_write
from evaluation.evidence import Evidence, SegmentationEvidence
from evaluation.threshold_sweep import (
    AT_RULE,
    PER_IMAGE,
    SliderStart,
    ThresholdSweep,
    sweep_means,
    sweep_thresholds,
)
from reporting import encoding
from reporting.cases import Case, indices_of
from reporting.encoding import as_json
from reporting.figures.style import COLORS
from reporting.figures.training import strata_table, training_figures
from reporting.image_table import build_image_table
from reporting.overlays import class_color
from reporting.relative_paths import page_folders, relative_config
from reporting.rendering import render
from reporting.sections import Section
from reporting.task_view import TASK_VIEWS, TaskView


def has_threshold(evidence: Evidence) -> bool:
    """Return whether thresholds decide; False if the most probable class is predicted."""
    return not getattr(evidence, "exclusive", False)


def build_page_data(kind: TaskView, evidence: Evidence, cases: Sequence[Case]) -> dict[str, Any]:
    """Return the data of the page's script as plain values that become JSON.

    Args:
        kind: View of the task.
        evidence: Evidence of the evaluated split.
        cases: Cases that the page shows, images of that split.
    """
    channels = range(len(evidence.classes)) if has_threshold(evidence) else range(0)
    places = indices_of(evidence.ids, (case.id for case in cases))
    each = [sweep_thresholds(evidence, c, kind.at_all_thresholds, places) for c in channels]
    predicted = [sweep.predicted for sweep in each]
    if isinstance(evidence, SegmentationEvidence) and evidence.exclusive:
        predicted = [evidence.decision(c).predicted for c in range(len(evidence.classes))]
    starts = [kind.slider_start(evidence, c) for c in channels]
    mean = sweep_means(each, evidence.metrics) if len(each) > 1 else [None for _ in each]
    several = len(evidence.classes) > 1
    return {
        "kind": evidence.kind,
        "classes": list(evidence.classes),
        "colors": [class_color(c) for c in range(len(evidence.classes))] if several else None,
        "scores": [score.name for score in evidence.metrics],
        "fixed": [score.name for score in evidence.metrics if score.threshold_free],
        "shared": [score.name for score in evidence.metrics if score.name in PER_IMAGE],
        "of": [_class_data(*parts) for parts in zip(each, mean, starts, strict=True)],
        "cases": [
            _case_data(evidence, case, number, place, each, predicted)
            for number, (case, place) in enumerate(zip(cases, places, strict=True))
        ],
        "orders": _ranking_data(kind, evidence, places),
        "table": build_image_table(
            evidence,
            kind.image_columns(evidence),
            each,
            {case.id: number for number, case in enumerate(cases)},
        ),
    }


def _class_data(
    swept: ThresholdSweep, mean: np.ndarray | None, start: SliderStart
) -> dict[str, Any]:
    return {
        **start._asdict(),
        "values": [encoding.encode_scores(values) for values in swept.values],
        "mean": None if mean is None else [encoding.encode_scores(values) for values in mean],
        "images": _count_data(swept.images),
        "pixels": None if swept.pixels is None else _count_data(swept.pixels),
    }


def _count_data(quadrants: np.ndarray) -> dict[str, Any]:
    """Return true and false positives per threshold, and the totals that give the rest."""
    tp, fp, fn, tn = quadrants
    return {
        "tp": tp.tolist(),
        "fp": fp.tolist(),
        "positive": int(tp[0] + fn[0]),
        "negative": int(fp[0] + tn[0]),
    }


def _case_data(
    evidence: Evidence,
    case: Case,
    number: int,
    place: int,
    each: Sequence[ThresholdSweep],
    predicted: Sequence[np.ndarray],
) -> dict[str, Any]:
    found: dict[str, Any] = {"id": case.id, "row": place}
    if case.maps:
        bottoms = evidence.rule[place, :, 2]
        found["size"] = list(case.size)
        found["maps"] = {str(c): text for c, text in case.maps.items()}
        found["first_byte"] = {
            str(c): int(bottoms[c]) if predicted[c][place] else AT_RULE for c in case.maps
        }
    dice_curves = {str(c): each[c].dice for c in case.channels} if each else {}
    return found | {
        "dice": {
            c: encoding.encode_scores(dice[number])
            for c, dice in dice_curves.items()
            if dice is not None
        }
    }


def _ranking_data(
    kind: TaskView, evidence: Evidence, places: Sequence[int]
) -> list[dict[str, Any]]:
    """Rank the cases by each order; the first `counted` ones also lead all images."""
    found = []
    number = {place: case for case, place in enumerate(places)}
    for name, order in kind.rankings(evidence).items() if places else ():
        ranked = [number[i] for i in order.images.tolist() if i in number]
        first = list(takewhile(lambda i: i in number, order.images[: order.counted].tolist()))
        found.append({"name": name, "cases": ranked, "counted": len(first)})
    return found


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
    kind, score = TASK_VIEWS[found["kind"]], f"val/{found['headline_metrics'][0]}"
    settings = found["config"] or {}
    monitor = settings.get("monitor", {}).get("name", score)
    stages = found.get("stages", [])
    figures = training_figures(run_dir, monitor, score, stages) | kind.figures(evidence)
    folders = page_folders(settings, run_dir)
    shown = relative_config(settings, folders)
    config = yaml.safe_dump(shown, sort_keys=False) if settings else ""
    evaluated = evidence[found["evaluated_split"]]
    classes, script = evaluated.classes, build_page_data(kind, evaluated, cases)
    pictures = {
        "cases": cases,
        "classes": classes,
        "moves": has_threshold(evaluated),
        "rule_explained": kind.explain_rule(evaluated),
        "fixed": script["fixed"],
        "notes": dict.fromkeys(each["note"] for each in script["of"] if each["note"]),
        "embedded": as_json(script),
        "panels": kind.panels(evidence),
        "strata": strata_table(run_dir, stages),
        "chips": kind.class_tags(classes),
        "legend": kind.LEGEND[len(classes) > 1],
        "colors": COLORS,
    }
    words = {
        "title": found["title"],
        "heading": found.get("heading", found["title"]),
        "phantom": found["data"]["phantom"],
        "monitor": monitor,
    }
    page = render(
        "run.html",
        folders,
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


def write_predicted(
    title: str, heading: str, phantom: bool, run_dir: Path, sections: Sequence[Section]
) -> Path:
    """Write a report.html of sections alone, for a run without a test.

    Args:
        title: Name of the run.
        heading: Heading of the page, as `page_heading` gives it.
        phantom: True if the images are phantoms.
        run_dir: The run folder.
        sections: Sections of callbacks.
    """
    path = run_dir / "report.html"
    page = render(
        "predicted.html",
        page_folders(None, run_dir),
        title=title,
        heading=heading,
        phantom=phantom,
        sections=sections,
    )
    atomic_write(path, page.encode())
    return path
