"""Builds the data of the page's script: thresholds, cases with maps, table of images."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from callbacks.report import packed
from callbacks.report.cases import Case, indices_of
from callbacks.report.image_table import build_image_table
from callbacks.report.kinds import TaskView
from callbacks.report.overlay import class_color
from callbacks.report.swept import AT_RULE, PER_IMAGE, ThresholdSweep, sweep_means, sweep_thresholds
from callbacks.report.thresholds import SliderStart
from lightning_modules.evidence import Evidence


def has_threshold(evidence: Evidence) -> bool:
    """Return whether thresholds decide; False if the most probable class is predicted."""
    return not getattr(evidence, "exclusive", False)


def build_page_data(kind: TaskView, evidence: Evidence, cases: Sequence[Case]) -> dict[str, Any]:
    """Return the data of the page's script as plain values that become JSON.

    Args:
        kind: The kind of the evidence.
        evidence: Evidence of the evaluated split.
        cases: Cases that the page shows, images of that split.
    """
    channels = range(len(evidence.classes)) if has_threshold(evidence) else range(0)
    places = indices_of(evidence.ids, (case.id for case in cases))
    each = [sweep_thresholds(evidence, c, kind.at_all_thresholds, places) for c in channels]
    starts = [kind.slider_start(evidence, c) for c in channels]
    mean = sweep_means(each, evidence.scores) if len(each) > 1 else [None for _ in each]
    several = len(evidence.classes) > 1
    return {
        "kind": evidence.kind,
        "classes": list(evidence.classes),
        "colours": [class_color(c) for c in range(len(evidence.classes))] if several else None,
        "scores": [score.name for score in evidence.scores],
        "shared": [score.name for score in evidence.scores if score.name in PER_IMAGE],
        "of": [_class_data(*parts) for parts in zip(each, mean, starts, strict=True)],
        "cases": [
            _case_data(evidence, case, number, place, each)
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
        "values": [packed.encode_scores(values) for values in swept.values],
        "mean": None if mean is None else [packed.encode_scores(values) for values in mean],
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
    evidence: Evidence, case: Case, number: int, place: int, each: Sequence[ThresholdSweep]
) -> dict[str, Any]:
    found: dict[str, Any] = {"id": case.id, "row": place}
    if case.maps:
        bottoms = evidence.rule[place, :, 2]
        found["size"] = list(case.size)
        found["maps"] = {str(c): text for c, text in case.maps.items()}
        found["drawn"] = {
            str(c): int(bottoms[c]) if each[c].predicted[place] else AT_RULE for c in case.maps
        }
    of_case = {str(c): each[c].dice for c in case.channels}
    return found | {
        "dice": {
            c: packed.encode_scores(dice[number]) for c, dice in of_case.items() if dice is not None
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
