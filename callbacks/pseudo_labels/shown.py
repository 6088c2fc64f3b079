"""What the page says of the chain: whether it points to lesions, what was rejected why, how long each step took, and a few cases."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from callbacks.pseudo_labels.chain import Labelled
from callbacks.pseudo_labels.localisation_rules import froc_at
from callbacks.pseudo_labels.quality import funnel
from callbacks.pseudo_labels.scored import Scored
from callbacks.report.cases import Case
from callbacks.report.section import Column, Section, Table
from callbacks.report.table import interval, number

LEGEND = (
    "Of the images above the threshold the heat map's peaks become boxes and the boxes masks, all"
    " in the images' own pixels. A row of pictures: image with true boxes (green, where known),"
    " heat map, boxes with masks (orange: kept, grey: rejected, violet: of an image known to be"
    " normal, where none is wanted) and, where known, the true mask's outline (green)."
)
SHORT = {
    "pointing_box": "pointing, box",
    "pointing_mask": "pointing, mask",
    "hit_rate_centre_at_1": "lesions hit by the first box",
    "hit_rate_centre_at_5": "by five boxes",
    froc_at(1): "FROC at 1 false positive an image",
    "dice": "Dice of masks",
}
COLUMNS = (
    Column("image", "true boxes green"),
    Column("heat map", "dark 0, bright 1"),
    Column("boxes and masks", "orange kept, grey rejected, violet false, green true"),
)
WEIGHED = (
    "Boxes are ranked by the probability of their image times their peak; random networks and the"
    " weighed blob have the trained classifier's probability, so that only the place differs."
)
STEPS = (
    *("images", "above the threshold", "heat map made", "heat map not all zero"),
    *("with a box", "not known to be normal", "with a mask that was kept"),
)


def summary(
    found: Sequence[Labelled], scored: Scored | None, seconds: Mapping[str, float], made: int
) -> dict[str, Any]:
    """Plain values for report.json: funnels of images and masks by split, seconds by step and heat maps made in them, scores of localisation."""
    splits = list(dict.fromkeys(each.known.split for each in found))
    of_split = {split: [each for each in found if each.known.split == split] for split in splits}
    reasons = {
        split: [verdict.reason for each in part for verdict in each.verdicts]
        for split, part in of_split.items()
    }
    return {
        "images": {split: images_left(part) for split, part in of_split.items()},
        "masks": {split: dict(funnel(part)) for split, part in reasons.items()},
        "seconds": dict(seconds),
        "heat_maps_per_second": (
            made / seconds["heat maps"] if made and seconds.get("heat maps") else None
        ),
        "localisation": None if scored is None else asdict(scored) | {"figures": None},
    }


def images_left(found: Sequence[Labelled]) -> dict[str, int]:
    """How many images are left after each step."""
    left, counts = list(found), [len(found)]
    for asks in (
        lambda each: each.called,
        lambda each: each.mapped,
        lambda each: each.warm,
        lambda each: len(each.found) > 0,
        lambda each: each.known.label != 0,
        lambda each: each.accepted > 0,
    ):
        left = [each for each in left if asks(each)]
        counts.append(len(left))
    return dict(zip(STEPS, counts, strict=True))


def section_of(told: Mapping[str, Any], scored: Scored | None, cases: Sequence[Case]) -> Section:
    """The section of the page.

    Args:
        told: As `summary` gives it.
        scored: Scores of localisation, where there are some.
        cases: Pictures.
    """
    tables = [
        _funnel("Images", told["images"]),
        _funnel("Masks, and what they were rejected for", told["masks"]),
    ]
    if scored is not None:
        tables.insert(0, _scores(scored))
    tables.append(_seconds(told["seconds"], told["heat_maps_per_second"]))
    figures = {} if scored is None else scored.figures
    return Section(
        "Pseudo labels",
        LEGEND,
        COLUMNS if cases else (),
        cases,
        said_of(told, scored),
        figures,
        tables,
    )


def said_of(told: Mapping[str, Any], scored: Scored | None) -> list[str]:
    """Sentences that a user has to read."""
    said = [] if scored is None else [scored.said]
    if not any(counts["above the threshold"] for counts in told["images"].values()):
        said.append(
            "No image reaches the threshold, so there are no boxes and no masks: the tables are"
            " empty but for their heads."
        )
    cold = sum(
        counts["heat map made"] - counts["heat map not all zero"]
        for counts in told["images"].values()
    )
    if cold:
        mend = "callbacks.pseudo_labels.heat_maps.method=LayerCAM or another layer may show some"
        said.append(
            f"The heat maps of {cold} images above the threshold are all zero, and give no box;"
            f" {mend}."
        )
    return said


def _funnel(title: str, counts: Mapping[str, Mapping[str, int]]) -> Table:
    steps = list(next(iter(counts.values()), {}))
    rows = [[step, *(f"{of_split[step]:,}" for of_split in counts.values())] for step in steps]
    return Table(title, ("left after each step", *counts), rows)


def _scores(scored: Scored) -> Table:
    names = [name for name in SHORT if any(name in scores for scores in scored.table.values())]
    rows = [
        [method, *(_with_interval(scores[name]) if name in scores else "–" for name in names)]
        for method, scores in scored.table.items()
    ]
    of = {
        name: max(
            (scores[name] for scores in scored.table.values() if name in scores),
            key=lambda score: score["n"],
        )
        for name in names
    }
    said = "; ".join(
        f"{SHORT[name]}: {score['definition']} (n = {score['n']})" for name, score in of.items()
    )
    note = f"{said}. In brackets: 95 % bootstrap intervals over patients. {WEIGHED}"
    return Table("Where it points to", ("method", *(SHORT[name] for name in names)), rows, note)


def _with_interval(score: dict[str, Any]) -> str:
    return number(score["value"]) + (f" [{interval(score)}]" if score["low"] is not None else "")


def _seconds(seconds: Mapping[str, float], rate: float | None) -> Table:
    whole = sum(seconds.values()) or 1.0
    rows = [
        [step, f"{spent:.1f}", f"{100 * spent / whole:.1f} %"] for step, spent in seconds.items()
    ]
    note = (
        ""
        if rate is None
        else f"{rate:.1f} heat maps a second, beside the classifier's forward, which they share. "
    )
    return Table(
        "Time of each step",
        ("step", "seconds", "share"),
        rows,
        f"{note}Of several processes the first one's.",
    )


def cases_of(shown: Sequence[Case]) -> list[Case]:
    """Those of one kind behind one another."""
    kinds = sorted(dict.fromkeys(case.kind for case in shown))
    return [case for kind in kinds for case in shown if case.kind == kind]
