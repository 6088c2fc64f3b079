"""Compare runs on the same test set: do=[compare] writes comparison.html and comparison.csv."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.markup import escape

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from evaluation.bootstrap import bootstrap_caveat, paired_differences
from evaluation.evidence import Evidence, align_measurements
from reporting.file_io import write_json
from reporting.ranking import BEST_ON_VAL, Ranking, choose_ranking, significance_label
from reporting.run_folder import (
    RunFolder,
    find_evaluated_runs,
    group_by_config,
    overall_scores,
)
from reporting.tables import (
    format_number,
    format_with_sd,
    print_differences,
    spreadsheet_cell,
    terminal_table,
)


def summarize_stages(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Summarize each stage over the runs that entered it; empty where there was no curriculum."""
    if not any(run.stages for run in runs):
        return []
    from reporting.figures.training import read_stages  # imports pandas

    each = [read_stages(run) for run in runs]
    return [
        _summarize_stage([run[n] for run in each if len(run) > n])
        for n in range(max(map(len, each)))
    ]


def _summarize_stage(run_stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    best = [stage["best"]["score"] for stage in run_stages if stage["best"]["score"] is not None]
    return {
        "stage": run_stages[0]["stage"],
        "asked": run_stages[0]["asked"],
        "runs": len(run_stages),
        "best": _mean_or_none(best),
        "sd": stdev(best) if len(best) > 1 else None,
        "best_epoch": _mean_or_none(
            [
                stage["best"]["epoch"] + 1
                for stage in run_stages
                if stage["best"]["epoch"] is not None
            ]
        ),
        "epochs": _mean_or_none(
            [stage["last_epoch"] - stage["first_epoch"] + 1 for stage in run_stages]
        ),
        "positive": _mean_or_none(
            [
                stage["sampled"]["positive_fraction"]
                for stage in run_stages
                if "positive_fraction" in stage["sampled"]
            ]
        ),
        "images": _mean_or_none(
            [stage["sampled"]["images"] for stage in run_stages if "images" in stage["sampled"]]
        ),
    }


def _mean_or_none(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def common_stage_score(runs: Sequence[RunFolder]) -> str:
    """Return the score that chose the best epochs of the stages, if all runs share it."""
    names = {name for name, _ in (run.monitor for run in runs)}
    return names.pop() if len(names) == 1 else "monitored score (it differs between the variants)"


def best_per_stage(
    variant_stages: Sequence[list[dict[str, Any]]], runs: Sequence[RunFolder]
) -> list[float | None]:
    """Return the best score of each stage over variants; None without a common monitored score."""
    monitors = {run.monitor for run in runs}
    better = min if monitors == {(next(iter(monitors))[0], "min")} else max
    found: list[float | None] = []
    for n in range(max(map(len, variant_stages))):
        scores = [
            variant[n]["best"]
            for variant in variant_stages
            if len(variant) > n and variant[n]["best"] is not None
        ]
        found.append(better(scores) if scores and len(monitors) == 1 else None)
    return found


CLASSIFICATION_SCORES = ("auc", "recall", "specificity")


def choose_common_ranking(runs: Sequence[RunFolder]) -> Ranking:
    """Return the score that ranks, with its direction.

    It is the score that all runs monitored on val, where evidence has it; else the first of their
    pages.
    """
    evidence = runs[0].evidence
    return choose_ranking(
        [run.monitor for run in runs],
        {score.name for score in evidence.metrics},
        evidence.headline_metrics[0],
    )


def val_score(run: RunFolder, score: str) -> float:
    """Return the score that ranks a run: on val, or out of fold for merged folds."""
    return run.score("val" if run.evaluated_split == "test" else run.evaluated_split, score)


def comparison_table(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Tabulate the runs, the best on val first.

    Columns are `run`, `title`, `val SCORE`; for labels `val` of the `CLASSIFICATION_SCORES` and
    `threshold`; and for each headline metric on test `SCORE`, `SCORE low`, `SCORE high`.
    """
    by = choose_common_ranking(runs)
    headline = common_evidence(runs).headline_metrics
    return sorted(
        (_table_row(run, by.score, headline) for run in runs),
        key=lambda line: by.sort_key(line[f"val {by.score}"]),
    )


def _write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows; a cell is empty where a value is missing or undefined."""
    file = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {name: "" if value != value else spreadsheet_cell(value) for name, value in row.items()}
        )
    atomic_write(path, file.getvalue().encode())


def common_evidence(runs: Sequence[RunFolder]) -> Evidence:
    """Return the first run's test evidence, with what was measured alike in all runs."""
    return align_measurements([run.evidence for run in runs])[0]


def _table_row(run: RunFolder, score: str, headline: Sequence[str]) -> dict[str, Any]:
    report = run.report
    labels = run.evidence.kind == "label"
    line: dict[str, Any] = {"run": str(run.path), "title": report["title"]}
    for name in dict.fromkeys((score, *(CLASSIFICATION_SCORES if labels else ()))):
        line[f"val {name}"] = val_score(run, name)
    if labels:
        rules = list(report.get("rule", {}).values())
        line["threshold"] = rules[0].get("threshold") if len(rules) == 1 else None
    scores = overall_scores(report["scores"][run.evaluated_split])
    for name in headline:
        line |= {
            name: scores[name]["value"],
            f"{name} low": scores[name]["low"],
            f"{name} high": scores[name]["high"],
        }
    return line


def compare_runs(folders: Sequence[str], run_dir: Path) -> dict[str, Any]:
    """Write comparison.json, comparison.csv and comparison.html into `run_dir`; print the table.

    Runs that differ only in their seed form one variant.

    Raises:
        UserError: fewer than two runs, or runs of different tasks, images or groups.
    """
    runs = _load_comparable_runs(folders)
    by = choose_common_ranking(runs)
    by_name = group_by_config(runs)
    val = {
        name: fmean(val_score(run, by.score) for run in variant)
        for name, variant in by_name.items()
    }
    ranked = sorted(
        by_name.items(), key=lambda named: by.sort_key(val[named[0]])
    )  # without val scores: last
    evidence = common_evidence(runs)
    headline = evidence.headline_metrics
    rows = [_variant_row(name, variant, ranked[0][1], by, headline) for name, variant in ranked]
    found = {
        "headline_metrics": headline,
        "ranked_by": by.score,
        "compared": list(dict.fromkeys((by.score, *headline))),
        "monitored": by.monitored,
        "variants": rows,
        "heading": runs[0].report.get("heading", runs[0].title),
        "definitions": {score.name: score.definition for score in evidence.metrics},
        "units": {score.name: score.unit for score in evidence.metrics if score.unit},
        "identity": evidence.identity,
        "n": len(evidence),
        "caveat": bootstrap_caveat(evidence),
        "phantom": runs[0].report["data"]["phantom"],
        "stage_score": common_stage_score(runs),
        "leaders": best_per_stage([row["stages"] for row in rows], runs),
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(found, run_dir / "comparison.json")
    board = comparison_table(runs)
    _write_csv(board, run_dir / "comparison.csv")
    _print_comparison(found)
    from reporting.comparison_page import render_comparison  # pandas and matplotlib: two seconds

    page = run_dir / "comparison.html"
    atomic_write(page, render_comparison(found, dict(ranked), board).encode())
    Console().print(f"page: {page}", soft_wrap=True)
    return found


def _load_comparable_runs(folders: Sequence[str]) -> list[RunFolder]:
    """Return the named runs, each once; refuse runs that cannot be compared."""
    if not folders:
        raise UserError(
            "runs=[] names no runs to compare; name their folders with runs=[A,B], as"
            " latest:EXPERIMENT, or name the folder of a sweep"
        )
    runs = list(
        {
            run.path.resolve(): run
            for folder in folders
            for run in find_evaluated_runs(Path(folder))
        }.values()
    )
    if len(runs) < 2:
        raise UserError(
            "do=[compare] needs at least two finished runs; name their folders with runs=[A,B], or"
            " name the folder of a sweep"
        )
    first = runs[0]
    for run in runs[1:]:
        if run.evidence.kind != first.evidence.kind:
            raise UserError(
                f"runs={first.path} predicts {first.evidence.kind}s and {run.path}"
                f" {run.evidence.kind}s, which have no common score; compare runs of one task"
            )
        if getattr(run.evidence, "exclusive", False) != getattr(first.evidence, "exclusive", False):
            raise UserError(
                f"{first.path} and {run.path} differ in module.exclusive: overlapping and exclusive"
                " classes have other scores; compare runs of one kind"
            )
        if run.evidence.identity != first.evidence.identity:
            raise UserError(
                f"{first.path} and {run.path} were evaluated on different images; compare runs on"
                " one test set, with the same datamodule.seed"
            )
        if dict(zip(run.evidence.ids, run.evidence.groups, strict=True)) != dict(
            zip(first.evidence.ids, first.evidence.groups, strict=True)
        ):
            raise UserError(
                f"{first.path} and {run.path} group the same images differently; evaluate both"
                " with the same datamodule.group"
            )
    return runs


def _variant_row(
    name: str,
    runs: list[RunFolder],
    reference_runs: list[RunFolder],
    ranking: Ranking,
    headline: Sequence[str],
) -> dict[str, Any]:
    reports = [run.report for run in runs]
    evaluated_split = runs[0].evaluated_split
    test = {score: [run.score(evaluated_split, score) for run in runs] for score in headline}
    config = reports[0].get("config") or {}
    single = overall_scores(reports[0]["scores"][evaluated_split])
    gaps = (
        None
        if runs is reference_runs
        else paired_differences(
            [run.evidence for run in reference_runs], [run.evidence for run in runs]
        )
    )
    return {
        "title": name,
        "runs": [str(run.path) for run in runs],
        "val": fmean(val_score(run, ranking.score) for run in runs),
        "test": {score: fmean(values) for score, values in test.items()},
        "sd": {score: stdev(values) if len(values) > 1 else None for score, values in test.items()},
        "interval": (
            {score: {end: single[score][end] for end in ("low", "high")} for score in headline}
            if len(runs) == 1
            else None
        ),
        "differences": (
            None if gaps is None else {score: asdict(gap) for score, gap in gaps.items()}
        ),
        "verdict": (
            BEST_ON_VAL
            if gaps is None
            else significance_label(gaps[ranking.score], ranking.lower_is_better)
        ),
        "parameters": reports[0].get("parameters"),
        "resources": (
            {key: fmean(r["resources"][key] for r in reports) for key in _COST_KEYS}
            if all(
                (r.get("resources") or {}).get(k) is not None for r in reports for k in _COST_KEYS
            )
            else None
        ),
        "start": _initial_weights(reports[0], config),
        "stages": summarize_stages(runs),
    }


_COST_KEYS = ("images_per_second", "peak_memory_gb", "train_seconds")


def _print_comparison(comparison: dict[str, Any]) -> None:
    console = Console()
    table = terminal_table(f"test, n = {comparison['n']}; ranked by val")
    table.add_column("score")
    for variant in comparison["variants"]:
        table.add_column(
            f"{escape(variant['title'])}\n{len(variant['runs'])} run(s)", justify="right"
        )
    table.add_row(
        f"val {comparison['ranked_by']}",
        *(format_number(variant["val"]) for variant in comparison["variants"]),
    )
    for name in comparison["headline_metrics"]:
        cells = (
            format_with_sd(variant["test"][name], variant["sd"][name])
            for variant in comparison["variants"]
        )
        table.add_row(name, *cells)
    console.print(table)
    for variant in comparison["variants"][1:]:
        print_differences(
            console,
            variant["title"],
            comparison["variants"][0]["title"],
            {name: variant["differences"][name] for name in comparison["compared"]},
            f"{variant['verdict']} by test {comparison['ranked_by']}; ",
        )
    console.print(comparison["caveat"], style="dim")


def _initial_weights(report: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Describe what a training began with: another run, pretrained weights, or neither."""
    named = [
        f"ImageNet weights of {each['network']}"
        if each["asked"] in ("imagenet", "auto")
        else f"{each['asked']}, {each['network']}"
        for each in report.get("pretrained_weights", [])
    ]
    stated = (report.get("training") or {}).get("weights")
    unknown = "from scratch, or from a run that began from scratch"
    return str(config.get("init_from") or "; ".join(named) or stated or unknown)
