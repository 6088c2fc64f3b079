"""Compare the variants of a multirun, each over its folds and seeds.

They are ranked by out-of-fold scores, with paired differences to the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from evaluation.bootstrap import paired_differences
from evaluation.evidence import Evidence
from reporting.out_of_fold import TEST, SeedRuns, restrict_to_common_images
from reporting.ranking import Ranking, choose_ranking, get_monitor
from reporting.rendering import render
from reporting.run_folder import RunFolder, get_score, overall_scores
from reporting.tables import format_with_sd, print_differences, terminal_table

MergedReport = dict[str, Any]


def compare_variants(
    variants: Mapping[str, Sequence[SeedRuns]],
    reports: Mapping[str, MergedReport],
    folder: Path,
    title: str,
) -> MergedReport:
    """Write report.json and report.html into the folder of a multirun, and print the table.

    Args:
        variants: Variant -> its seeds.
        reports: Variant -> the contents of its own report.json.
        folder: Folder of the multirun; each variant has its page in `merged/arm*`.
        title: Title of the page.

    Returns:
        Contents of report.json.

    Raises:
        UserError: the variants are of different tasks.
    """
    _check_same_task(reports)
    first = next(iter(reports.values()))
    known = set(next(iter(first["scores"][first["judged"]].values())))
    rank = choose_ranking(
        [get_monitor(found["config"], first["heads"][0]) for found in reports.values()],
        known,
        first["heads"][0],
    )
    split = "val" if first["judged"] == TEST else first["judged"]
    ordered = sorted(
        reports, key=lambda arm: rank.sort_key(_ranking_value(reports[arm], split, rank))
    )
    gaps, caveat = _variant_differences(
        {arm: [seed for seed in variants[arm] if seed.fold_runs] for arm in ordered}
    )
    rows = [
        _variant_row(arm, reports[arm], variants, split, rank, gaps.get(arm)) for arm in ordered
    ]
    found: MergedReport = {
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
        "title": f"{title}, {len(reports)} arms",
        "scores": {},  # each arm has its own
        "ranked_by": rank.score,
        "ranked_on": split,
        "arms": rows,
        "caveat": caveat,
        "lacking": [
            f"{arm}: {sentence}" for arm in ordered for sentence in reports[arm]["lacking"]
        ],
    }
    RunFolder(folder).write_report(found)
    page = folder / "report.html"
    words = {"title": found["title"], "phantom": found["data"]["phantom"]}
    atomic_write(page, render("variants.html", found=found, **words).encode())
    _print_variants(found, page)
    return found


def _check_same_task(reports: Mapping[str, MergedReport]) -> None:
    """Refuse variants of different tasks, whose scores cannot be compared."""
    first, *others = reports
    tasks = {
        arm: (found["kind"], found["heads"], list(found["scores"][found["judged"]]))
        for arm, found in reports.items()
    }
    other = next((arm for arm in others if tasks[arm] != tasks[first]), None)
    if other is not None:
        mend = "compare arms of one task and its classes; each has its page in merged/arm*"
        raise UserError(
            f"{first} and {other} are of different tasks ({tasks[first][0]}s and"
            f" {tasks[other][0]}s), or of other classes; {mend}"
        )


def _ranking_value(report: MergedReport, split: str, ranking: Ranking) -> float:
    """Return the score that ranks a variant: out of fold, or on val for seeds alone."""
    return get_score(report, split, ranking.score)


def _variant_row(
    variant: str,
    report: MergedReport,
    variants: Mapping[str, Any],
    split: str,
    ranking: Ranking,
    differences: dict[str, Any] | None,
) -> MergedReport:
    scores = overall_scores(report["scores"][report["judged"]])
    value = _ranking_value(report, split, ranking)
    return {
        "arm": variant,
        "ranked": None if isnan(value) else value,
        "scores": {
            name: {key: scores[name].get(key) for key in ("value", "low", "high", "sd")}
            for name in report["heads"]
        },
        "fits": len(report["fits"]),
        "of": len(report["fits"]) + sum(len(seed.missing_reasons) for seed in variants[variant]),
        "differences": differences,
        "page": f"merged/arm{list(variants).index(variant)}/report.html",
    }


def _variant_differences(
    variants: Mapping[str, Sequence[SeedRuns]],
) -> tuple[dict[str, dict[str, Any]], str]:
    """Compute the paired differences of each variant to the first, and their caveat.

    Variant -> score -> difference, on the images that all seeds of all variants evaluated.
    """
    try:
        evidence, left_out = restrict_to_common_images(
            {(arm, seed.seed): seed for arm, seeds in variants.items() for seed in seeds}
        )
    except UserError as refusal:
        return {}, f"no differences: {refusal}"
    by_arm: dict[str, list[Evidence]] = {
        arm: [evidence[arm, seed.seed] for seed in seeds] for arm, seeds in variants.items()
    }
    first, *others = variants
    gaps = {
        arm: {
            name: asdict(gap)
            for name, gap in paired_differences(by_arm[first], by_arm[arm]).items()
        }
        for arm in others
    }
    n = len(next(iter(evidence.values())))
    return gaps, f"on {n} images" + (
        f", which all fits have judged; {left_out} others are left out because fits are missing"
        if left_out
        else ""
    )


def _print_variants(comparison: MergedReport, page: Path) -> None:
    console = Console()
    title = (
        f"{comparison['title']}; ranked by {comparison['ranked_on'].replace('_', ' ')}"
        f" {comparison['ranked_by']}"
    )
    table = terminal_table(title)
    for name in ("arm", "fits"):
        table.add_column(name)
    heads = comparison["heads"][:3]
    for name in heads:
        table.add_column(
            f"{comparison['judged'].replace('_', ' ')}\n{name}", justify="right", no_wrap=True
        )
    for row in comparison["arms"]:
        scores = (row["scores"][name] for name in heads)
        cells = (format_with_sd(score["value"], score["sd"]) for score in scores)
        table.add_row(escape(row["arm"]), f"{row['fits']} of {row['of']}", *cells)
    console.print(table)
    for row in comparison["arms"][1:]:
        if row["differences"]:
            print_differences(
                console,
                row["arm"],
                comparison["arms"][0]["arm"],
                {name: row["differences"][name] for name in heads},
            )
    console.print(comparison["caveat"], style="dim", soft_wrap=True)
    for sentence in comparison["lacking"]:
        console.print(escape(sentence), style="yellow", soft_wrap=True)
    console.print(f"page: {page}", soft_wrap=True)
