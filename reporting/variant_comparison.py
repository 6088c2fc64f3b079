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
from reporting.relative_paths import page_folders
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
        folder: Folder of the multirun; each variant has its page in `merged/variant*`.
        title: Title of the page.

    Returns:
        Contents of report.json.

    Raises:
        UserError: the variants have different tasks or classes.
    """
    _check_same_task(reports)
    first = next(iter(reports.values()))
    known = set(next(iter(first["scores"][first["evaluated_split"]].values())))
    rank = choose_ranking(
        [get_monitor(found["config"], first["headline_metrics"][0]) for found in reports.values()],
        known,
        first["headline_metrics"][0],
    )
    split = "val" if first["evaluated_split"] == TEST else first["evaluated_split"]
    ordered = sorted(
        reports, key=lambda variant: rank.sort_key(_ranking_value(reports[variant], split, rank))
    )
    gaps, caveat = _variant_differences(
        {variant: [seed for seed in variants[variant] if seed.fold_runs] for variant in ordered}
    )
    headline = [
        name
        for name in first["headline_metrics"]
        if all(name in found["headline_metrics"] for found in reports.values())
        and all(name in differences for differences in gaps.values())  # measured alike in all
    ]
    rows = [
        _variant_row(variant, reports[variant], variants, split, rank, gaps.get(variant), headline)
        for variant in ordered
    ]
    found: MergedReport = {
        **{
            name: first[name]
            for name in (
                "schema",
                "kind",
                "heading",
                "definitions",
                "units",
                "evaluated_split",
                "finished",
                "evaluation_grid",
                "versions",
                "commit",
                "config",
                "data",
            )
            if name in first
        },
        "title": f"{title}, {len(reports)} variants",
        "scores": {},  # each variant has a report of its own
        "headline_metrics": headline,
        "ranked_by": rank.score,
        "ranked_on": split,
        "variants": rows,
        "caveat": caveat,
        "missing_fits": [
            f"{variant}: {sentence}"
            for variant in ordered
            for sentence in reports[variant]["missing_fits"]
        ],
    }
    RunFolder(folder).write_report(found)
    page = folder / "report.html"
    words = {
        "title": found["title"],
        "heading": found["heading"],
        "phantom": found["data"]["phantom"],
    }
    atomic_write(
        page, render("variants.html", page_folders(None, folder), found=found, **words).encode()
    )
    _print_variants(found, page)
    return found


def _check_same_task(reports: Mapping[str, MergedReport]) -> None:
    """Refuse variants of different tasks, whose scores cannot be compared."""
    first, *others = reports
    tasks = {
        variant: (found["kind"], list(found["scores"][found["evaluated_split"]]))
        for variant, found in reports.items()
    }
    other = next((variant for variant in others if tasks[variant] != tasks[first]), None)
    if other is not None:
        raise UserError(
            f"{first} and {other} have different tasks ({tasks[first][0]}s and"
            f" {tasks[other][0]}s) or classes; compare variants of one task and its classes (each"
            " variant has a page in merged/variant*)"
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
    headline: Sequence[str],
) -> MergedReport:
    scores = overall_scores(report["scores"][report["evaluated_split"]])
    value = _ranking_value(report, split, ranking)
    return {
        "variant": variant,
        "ranked": None if isnan(value) else value,
        "scores": {
            name: {key: scores[name].get(key) for key in ("value", "low", "high", "sd")}
            for name in headline
        },
        "fits": len(report["fits"]),
        "of": len(report["fits"]) + sum(len(seed.missing_reasons) for seed in variants[variant]),
        "differences": differences,
        "page": f"merged/variant{list(variants).index(variant)}/report.html",
    }


def _variant_differences(
    variants: Mapping[str, Sequence[SeedRuns]],
) -> tuple[dict[str, dict[str, Any]], str]:
    """Compute the paired differences of each variant to the first, and their caveat.

    Variant -> score -> difference, on the images that all seeds of all variants evaluated.
    """
    try:
        evidence, left_out = restrict_to_common_images(
            {(variant, seed.seed): seed for variant, seeds in variants.items() for seed in seeds}
        )
    except UserError as refusal:
        return {}, f"no differences: {refusal}"
    by_variant: dict[str, list[Evidence]] = {
        variant: [evidence[variant, seed.seed] for seed in seeds]
        for variant, seeds in variants.items()
    }
    first, *others = variants
    gaps = {
        variant: {
            name: asdict(gap)
            for name, gap in paired_differences(by_variant[first], by_variant[variant]).items()
        }
        for variant in others
    }
    n = len(next(iter(evidence.values())))
    return gaps, f"on {n} images" + (
        f", which all fits have evaluated; {left_out} others are left out because fits are missing"
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
    for name in ("variant", "fits"):
        table.add_column(name)
    headline = comparison["headline_metrics"][:3]
    for name in headline:
        table.add_column(
            f"{comparison['evaluated_split'].replace('_', ' ')}\n{name}",
            justify="right",
            no_wrap=True,
        )
    for row in comparison["variants"]:
        scores = (row["scores"][name] for name in headline)
        cells = (format_with_sd(score["value"], score["sd"]) for score in scores)
        table.add_row(escape(row["variant"]), f"{row['fits']} of {row['of']}", *cells)
    console.print(table)
    for row in comparison["variants"][1:]:
        if row["differences"]:
            print_differences(
                console,
                row["variant"],
                comparison["variants"][0]["variant"],
                {name: row["differences"][name] for name in headline},
            )
    console.print(comparison["caveat"], style="dim", soft_wrap=True)
    for sentence in comparison["missing_fits"]:
        console.print(escape(sentence), style="yellow", soft_wrap=True)
    console.print(f"page: {page}", soft_wrap=True)
