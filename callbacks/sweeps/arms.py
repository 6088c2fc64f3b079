"""Arms of a multirun beside each other, each over its folds and seeds: ranked out of fold, with paired differences to the first."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callbacks.comparison.finished import score_of, whole
from callbacks.comparison.paired import differences
from callbacks.comparison.ranking import Ranking, monitor_of, ranking
from callbacks.report.content import write_json
from callbacks.report.table import number, signed
from callbacks.report.template import render
from callbacks.sweeps.out_of_fold import TEST, OneSeed, alike
from datamodules.refusal import Refusal
from datamodules.whole_file import write_whole
from lightning_modules.evidence import Evidence

Merged = dict[str, Any]


def arms_beside(
    arms: Mapping[str, Sequence[OneSeed]], merged: Mapping[str, Merged], folder: Path, title: str
) -> Merged:
    """Writes report.json and report.html into the folder of a multirun, and prints the table.

    Args:
        arms: Arm -> its seeds.
        merged: Arm -> what its own report.json says.
        folder: Of the multirun; each arm has its page in `merged/arm*`.
        title: Of the page.

    Returns:
        As in report.json.

    Raises:
        Refusal: the arms are of different tasks.
    """
    _refuse_different_tasks(merged)
    first = next(iter(merged.values()))
    known = set(next(iter(first["scores"][first["judged"]].values())))
    rank = ranking(
        [monitor_of(found["config"], first["heads"][0]) for found in merged.values()],
        known,
        first["heads"][0],
    )
    split = "val" if first["judged"] == TEST else first["judged"]
    ordered = sorted(merged, key=lambda arm: rank.place(_value(merged[arm], split, rank)))
    gaps, caveat = _differences({arm: [seed for seed in arms[arm] if seed.fits] for arm in ordered})
    rows = [_row(arm, merged[arm], arms, split, rank, gaps.get(arm)) for arm in ordered]
    found: Merged = {
        **{
            name: first[name]
            for name in (
                "schema",
                "kind",
                "heads",
                "judged",
                "finished",
                "judged_at",
                "versions",
                "commit",
                "config",
                "data",
            )
        },
        "title": f"{title}, {len(merged)} arms",
        "scores": {},  # each arm has its own
        "ranked_by": rank.score,
        "ranked_on": split,
        "arms": rows,
        "caveat": caveat,
        "lacking": [f"{arm}: {sentence}" for arm in ordered for sentence in merged[arm]["lacking"]],
    }
    write_json(found, folder / "report.json")
    page = folder / "report.html"
    words = {"title": found["title"], "phantom": found["data"]["phantom"]}
    write_whole(page, render(Path(__file__).parent, "arms.html", found=found, **words).encode())
    _print(found, page)
    return found


def _refuse_different_tasks(merged: Mapping[str, Merged]) -> None:
    """Their scores are not each other's."""
    first, *others = merged
    tasks = {
        arm: (found["kind"], found["heads"], list(found["scores"][found["judged"]]))
        for arm, found in merged.items()
    }
    other = next((arm for arm in others if tasks[arm] != tasks[first]), None)
    if other is not None:
        mend = "compare arms of one task and its classes; each has its page in merged/arm*"
        raise Refusal(
            f"{first} and {other} are of different tasks ({tasks[first][0]}s and"
            f" {tasks[other][0]}s), or of other classes; {mend}"
        )


def _value(found: Merged, split: str, rank: Ranking) -> float:
    """What ranks an arm: out of fold, or of seeds alone on val."""
    return score_of(found, split, rank.score)


def _row(
    arm: str,
    found: Merged,
    arms: Mapping[str, Any],
    split: str,
    rank: Ranking,
    gaps: dict[str, Any] | None,
) -> Merged:
    scores = whole(found["scores"][found["judged"]])
    value = _value(found, split, rank)
    return {
        "arm": arm,
        "ranked": None if isnan(value) else value,
        "scores": {
            name: {key: scores[name].get(key) for key in ("value", "low", "high", "sd")}
            for name in found["heads"]
        },
        "fits": len(found["fits"]),
        "of": len(found["fits"]) + sum(len(seed.lacking) for seed in arms[arm]),
        "differences": gaps,
        "page": f"merged/arm{list(arms).index(arm)}/report.html",
    }


def _differences(arms: Mapping[str, Sequence[OneSeed]]) -> tuple[dict[str, dict[str, Any]], str]:
    """Arm -> score -> its difference to the first, on the images that all seeds of all arms judged; and what that assumes."""
    try:
        evidence, left_out = alike(
            {(arm, seed.seed): seed for arm, seeds in arms.items() for seed in seeds}
        )
    except Refusal as refusal:
        return {}, f"no differences: {refusal}"
    by_arm: dict[str, list[Evidence]] = {
        arm: [evidence[arm, seed.seed] for seed in seeds] for arm, seeds in arms.items()
    }
    first, *others = arms
    gaps = {
        arm: {name: asdict(gap) for name, gap in differences(by_arm[first], by_arm[arm]).items()}
        for arm in others
    }
    n = len(next(iter(evidence.values())))
    return gaps, f"on {n} images" + (
        f", which all fits have judged; {left_out} others are left out because fits are missing"
        if left_out
        else ""
    )


def _print(found: Merged, page: Path) -> None:
    console = Console()
    title = (
        f"{found['title']}; ranked by {found['ranked_on'].replace('_', ' ')} {found['ranked_by']}"
    )
    table = Table(
        "arm",
        "fits",
        title=escape(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    heads = found["heads"][:3]
    for name in heads:
        table.add_column(
            f"{found['judged'].replace('_', ' ')}\n{name}", justify="right", no_wrap=True
        )
    for row in found["arms"]:
        cells = (
            number(row["scores"][name]["value"])
            + (f" ± {sd:.4f}" if (sd := row["scores"][name]["sd"]) is not None else "")
            for name in heads
        )
        table.add_row(escape(row["arm"]), f"{row['fits']} of {row['of']}", *cells)
    console.print(table)
    for row in found["arms"][1:]:
        if row["differences"]:
            said = "; ".join(f"{name} {signed(row['differences'][name])}" for name in heads)
            console.print(
                f"{escape(row['arm'])} minus {escape(found['arms'][0]['arm'])}: {escape(said)}",
                soft_wrap=True,
            )
    console.print(found["caveat"], style="dim", soft_wrap=True)
    for sentence in found["lacking"]:
        console.print(escape(sentence), style="yellow", soft_wrap=True)
    console.print(f"page: {page}", soft_wrap=True)
