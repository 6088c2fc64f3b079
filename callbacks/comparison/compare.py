"""Compare finished runs on one test set: arms ranked by val, each against the best on test."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from callbacks.comparison.courses import load_curves, variants_without_image_count
from callbacks.comparison.figures import legend_entries, plot_curves
from callbacks.comparison.finished import (
    FinishedRun,
    group_by_config,
    load_finished_runs,
    overall_scores,
)
from callbacks.comparison.leaderboard import choose_common_ranking, comparison_table, val_score
from callbacks.comparison.paired import paired_differences
from callbacks.comparison.ranking import Ranking
from callbacks.comparison.stages import best_per_stage, common_stage_score, summarize_stages
from callbacks.comparison.verdict import BEST_ON_VAL, significance_label
from callbacks.report.content import write_json
from callbacks.report.table import format_number, format_signed
from callbacks.report.template import render
from datamodules.refusal import UserError
from lightning_modules.uncertainty import bootstrap_caveat


def compare_runs(folders: Sequence[str], run_dir: Path) -> dict[str, Any]:
    """Write comparison.json, comparison.csv and comparison.html into `run_dir`; print the table.

    Runs that differ only in their seed form one arm.

    Raises:
        Refusal: fewer than two runs, or runs of different tasks, images or groups.
    """
    runs = _load_comparable_runs(folders)
    by = choose_common_ranking(runs)
    by_name = group_by_config(runs)
    val = {name: fmean(val_score(run, by.score) for run in arm) for name, arm in by_name.items()}
    ranked = sorted(
        by_name.items(), key=lambda named: by.sort_key(val[named[0]])
    )  # without val scores: last
    rows = [_variant_row(name, arm, ranked[0][1], by) for name, arm in ranked]
    evidence = runs[0].evidence
    found = {
        "heads": evidence.headline_metrics,
        "ranked_by": by.score,
        "compared": list(dict.fromkeys((by.score, *evidence.headline_metrics))),
        "monitored": by.monitored,
        "arms": rows,
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
    board.to_csv(run_dir / "comparison.csv", index=False)
    (run_dir / "comparison.html").write_text(
        _render_page(found, dict(ranked), board), encoding="utf-8"
    )
    _print_comparison(found, run_dir / "comparison.html")
    return found


def _load_comparable_runs(folders: Sequence[str]) -> list[FinishedRun]:
    """Return the named runs, each once; refuse runs that cannot be compared."""
    if not folders:
        raise UserError(
            "no runs to compare; name their folders with runs=[A,B], latest:EXPERIMENT among them,"
            " or a sweep's folder"
        )
    runs = list(
        {
            run.folder.resolve(): run
            for folder in folders
            for run in load_finished_runs(Path(folder))
        }.values()
    )
    if len(runs) < 2:
        raise UserError(
            "do=[compare] needs two finished runs or more; name their folders with runs=[A,B], or a"
            " sweep's folder"
        )
    first = runs[0]
    for run in runs[1:]:
        if run.evidence.kind != first.evidence.kind:
            said = (
                f"{first.folder} tells {first.evidence.kind}s and {run.folder} {run.evidence.kind}s"
            )
            raise UserError(f"{said}, which no score measures alike; compare runs of one task")
        if run.evidence.identity != first.evidence.identity:
            mend = "compare runs on one test set, with the same datamodule.seed"
            raise UserError(
                f"{first.folder} and {run.folder} were judged on different images; {mend}"
            )
        if dict(zip(run.evidence.ids, run.evidence.groups, strict=True)) != dict(
            zip(first.evidence.ids, first.evidence.groups, strict=True)
        ):
            raise UserError(
                f"{first.folder} and {run.folder} group the same images differently; evaluate both"
                " with the same datamodule.group"
            )
    return runs


def _variant_row(
    name: str, runs: list[FinishedRun], reference_runs: list[FinishedRun], ranking: Ranking
) -> dict[str, Any]:
    reports = [run.report for run in runs]
    judged, heads = runs[0].evaluated_split, runs[0].evidence.headline_metrics
    test = {score: [run.score(judged, score) for run in runs] for score in heads}
    config = reports[0].get("config") or {}
    single = overall_scores(reports[0]["scores"][judged])
    gaps = (
        None
        if runs is reference_runs
        else paired_differences(
            [run.evidence for run in reference_runs], [run.evidence for run in runs]
        )
    )
    return {
        "title": name,
        "runs": [str(run.folder) for run in runs],
        "val": fmean(val_score(run, ranking.score) for run in runs),
        "test": {score: fmean(values) for score, values in test.items()},
        "sd": {score: stdev(values) if len(values) > 1 else None for score, values in test.items()},
        "interval": (
            {score: {end: single[score][end] for end in ("low", "high")} for score in heads}
            if len(runs) == 1
            else None
        ),
        "differences": (
            None if gaps is None else {score: asdict(gap) for score, gap in gaps.items()}
        ),
        "verdict": BEST_ON_VAL
        if gaps is None
        else significance_label(gaps[ranking.score], ranking.lower_is_better),
        "parameters": reports[0].get("parameters"),
        "resources": (
            {key: fmean(r["resources"][key] for r in reports) for key in _COST_KEYS}
            if all(r.get("resources") for r in reports)
            else None
        ),
        "start": config.get("init_from") or "no earlier run",
        "stages": summarize_stages(runs),
    }


_COST_KEYS = ("images_per_second", "peak_memory_gb", "train_seconds")


def _render_page(
    comparison: dict[str, Any], variants: dict[str, list[FinishedRun]], table: pd.DataFrame
) -> str:
    gone = load_curves(variants)
    words = {
        "title": "Comparison",
        "phantom": comparison["phantom"],
        "key": legend_entries(gone),
        "uncounted": variants_without_image_count(gone),
        "board": table.to_dict("records"),
    }
    return render(
        Path(__file__).parent,
        found=comparison,
        figures=plot_curves(gone, f"val/{comparison['ranked_by']}"),
        **words,
    )


def _print_comparison(comparison: dict[str, Any], page: Path) -> None:
    console = Console()
    table = Table(
        "score",
        title=f"test, n = {comparison['n']}; ranked by val",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for arm in comparison["arms"]:
        table.add_column(f"{escape(arm['title'])}\n{len(arm['runs'])} run(s)", justify="right")
    table.add_row(
        f"val {comparison['ranked_by']}", *(format_number(arm["val"]) for arm in comparison["arms"])
    )
    for name in comparison["heads"]:
        spread = [
            f" ± {arm['sd'][name]:.4f}" if arm["sd"][name] is not None else ""
            for arm in comparison["arms"]
        ]
        table.add_row(
            name,
            *(
                format_number(arm["test"][name]) + sd
                for arm, sd in zip(comparison["arms"], spread, strict=True)
            ),
        )
    console.print(table)
    for arm in comparison["arms"][1:]:
        said = "; ".join(
            f"{name} {format_signed(arm['differences'][name])}" for name in comparison["compared"]
        )
        about = f"{arm['verdict']} by test {comparison['ranked_by']}; {said}"
        console.print(
            f"{escape(arm['title'])} minus {escape(comparison['arms'][0]['title'])}: {escape(about)}",
            soft_wrap=True,
        )
    console.print(comparison["caveat"], style="dim")
    console.print(f"page: {page}", soft_wrap=True)
