"""What the page says of the chain: whether it points to lesions, what was rejected why, how long each step took, and a few cases."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from callbacks.pseudo_labels.chain import PseudoLabel
from callbacks.pseudo_labels.localisation_rules import froc_score_name
from callbacks.pseudo_labels.quality import rejection_funnel
from callbacks.pseudo_labels.scored import LocalizationReport
from callbacks.report.cases import Case
from callbacks.report.section import Column, Section, Table
from callbacks.report.table import format_interval, format_number

SECTION_LEGEND = (
    "Of the images above the threshold the heat map's peaks become boxes and the boxes masks, all"
    " in the images' own pixels. A row of pictures: image with true boxes (green, where known),"
    " heat map, boxes with masks (orange: kept, grey: rejected, violet: of an image known to be"
    " normal, where none is wanted) and, where known, the true mask's outline (green)."
)
SCORE_TITLES = {
    "pointing_box": "pointing, box",
    "pointing_mask": "pointing, mask",
    "hit_rate_centre_at_1": "lesions hit by the first box",
    "hit_rate_centre_at_5": "by five boxes",
    froc_score_name(1): "FROC at 1 false positive an image",
    "dice": "Dice of masks",
}
PANE_COLUMNS = (
    Column("image", "true boxes green"),
    Column("heat map", "dark 0, bright 1"),
    Column("boxes and masks", "orange kept, grey rejected, violet false, green true"),
)
RANKING_NOTE = (
    "Boxes are ranked by the probability of their image times their peak; random networks and the"
    " weighed blob have the trained classifier's probability, so that only the place differs."
)
IMAGE_FUNNEL_STEPS = (
    *("images", "above the threshold", "heat map made", "heat map not all zero"),
    *("with a box", "not known to be normal", "with a mask that was kept"),
)


def build_summary(
    pseudo_labels: Sequence[PseudoLabel],
    localization: LocalizationReport | None,
    seconds: Mapping[str, float],
    n_heat_maps: int,
) -> dict[str, Any]:
    """Plain values for report.json: funnels of images and masks by split, seconds by step and heat maps made in them, scores of localisation."""
    splits = list(dict.fromkeys(each.info.split for each in pseudo_labels))
    of_split = {
        split: [each for each in pseudo_labels if each.info.split == split] for split in splits
    }
    reasons = {
        split: [verdict.reason for each in part for verdict in each.mask_checks]
        for split, part in of_split.items()
    }
    return {
        "images": {split: image_funnel(part) for split, part in of_split.items()},
        "masks": {split: dict(rejection_funnel(part)) for split, part in reasons.items()},
        "seconds": dict(seconds),
        "heat_maps_per_second": (
            n_heat_maps / seconds["heat maps"] if n_heat_maps and seconds.get("heat maps") else None
        ),
        "localization": None if localization is None else asdict(localization) | {"figures": None},
    }


def image_funnel(pseudo_labels: Sequence[PseudoLabel]) -> dict[str, int]:
    """How many images are left after each step."""
    left, counts = list(pseudo_labels), [len(pseudo_labels)]
    for asks in (
        lambda each: each.predicted_positive,
        lambda each: each.has_cam,
        lambda each: each.cam_nonzero,
        lambda each: len(each.proposals) > 0,
        lambda each: each.info.label != 0,
        lambda each: each.n_accepted > 0,
    ):
        left = [each for each in left if asks(each)]
        counts.append(len(left))
    return dict(zip(IMAGE_FUNNEL_STEPS, counts, strict=True))


def build_section(
    summary: Mapping[str, Any], localization: LocalizationReport | None, cases: Sequence[Case]
) -> Section:
    """The section of the page.

    Args:
        summary: As `build_summary` gives it.
        localization: Scores of localisation, where there are some.
        cases: Pictures.
    """
    tables = [
        _funnel_table("Images", summary["images"]),
        _funnel_table("Masks, and what they were rejected for", summary["masks"]),
    ]
    if localization is not None:
        tables.insert(0, _score_table(localization))
    tables.append(_timing_table(summary["seconds"], summary["heat_maps_per_second"]))
    figures = {} if localization is None else localization.figures
    return Section(
        "Pseudo labels",
        SECTION_LEGEND,
        PANE_COLUMNS if cases else (),
        cases,
        findings(summary, localization),
        figures,
        tables,
    )


def findings(summary: Mapping[str, Any], localization: LocalizationReport | None) -> list[str]:
    """Sentences that a user has to read."""
    said = [] if localization is None else [localization.summary]
    if not any(counts["above the threshold"] for counts in summary["images"].values()):
        said.append(
            "No image reaches the threshold, so there are no boxes and no masks: the tables are"
            " empty but for their heads."
        )
    cold = sum(
        counts["heat map made"] - counts["heat map not all zero"]
        for counts in summary["images"].values()
    )
    if cold:
        mend = "callbacks.pseudo_labels.heat_maps.method=LayerCAM or another layer may show some"
        said.append(
            f"The heat maps of {cold} images above the threshold are all zero, and give no box;"
            f" {mend}."
        )
    return said


def _funnel_table(title: str, counts: Mapping[str, Mapping[str, int]]) -> Table:
    steps = list(next(iter(counts.values()), {}))
    rows = [[step, *(f"{of_split[step]:,}" for of_split in counts.values())] for step in steps]
    return Table(title, ("left after each step", *counts), rows)


def _score_table(localization: LocalizationReport) -> Table:
    names = [
        name
        for name in SCORE_TITLES
        if any(name in scores for scores in localization.table.values())
    ]
    rows = [
        [
            method,
            *(_format_with_interval(scores[name]) if name in scores else "–" for name in names),
        ]
        for method, scores in localization.table.items()
    ]
    of = {
        name: max(
            (scores[name] for scores in localization.table.values() if name in scores),
            key=lambda score: score["n"],
        )
        for name in names
    }
    said = "; ".join(
        f"{SCORE_TITLES[name]}: {score['definition']} (n = {score['n']})"
        for name, score in of.items()
    )
    note = f"{said}. In brackets: 95 % bootstrap intervals over patients. {RANKING_NOTE}"
    return Table(
        "Where it points to", ("method", *(SCORE_TITLES[name] for name in names)), rows, note
    )


def _format_with_interval(score: dict[str, Any]) -> str:
    return format_number(score["value"]) + (
        f" [{format_interval(score)}]" if score["low"] is not None else ""
    )


def _timing_table(seconds: Mapping[str, float], heat_maps_per_second: float | None) -> Table:
    whole = sum(seconds.values()) or 1.0
    rows = [
        [step, f"{spent:.1f}", f"{100 * spent / whole:.1f} %"] for step, spent in seconds.items()
    ]
    note = (
        ""
        if heat_maps_per_second is None
        else f"{heat_maps_per_second:.1f} heat maps a second, beside the classifier's forward, which they share. "
    )
    return Table(
        "Time of each step",
        ("step", "seconds", "share"),
        rows,
        f"{note}Of several processes the first one's.",
    )


def group_cases(cases: Sequence[Case]) -> list[Case]:
    """Those of one kind behind one another."""
    kinds = sorted(dict.fromkeys(case.kind for case in cases))
    return [case for kind in kinds for case in cases if case.kind == kind]
