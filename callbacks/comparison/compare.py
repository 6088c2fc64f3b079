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

from callbacks.comparison.courses import courses, uncounted
from callbacks.comparison.figures import figures, key
from callbacks.comparison.finished import Finished, arms, read_all, whole
from callbacks.comparison.leaderboard import leaderboard, ranking_of, val_score
from callbacks.comparison.paired import differences
from callbacks.comparison.ranking import Ranking
from callbacks.comparison.stages import leaders, stage_score, stages
from callbacks.comparison.verdict import BEST, verdict
from callbacks.report.content import write_json
from callbacks.report.table import number, signed
from callbacks.report.template import render
from datamodules.refusal import Refusal
from lightning_modules.uncertainty import caveat


def compare(folders: Sequence[str], run_dir: Path) -> dict[str, Any]:
    """Write comparison.json, comparison.csv and comparison.html into `run_dir`; print the table.

    Runs that differ only in their seed form one arm.

    Raises:
        Refusal: fewer than two runs, or runs of different tasks, images or groups.
    """
    runs = _comparable(folders)
    by = ranking_of(runs)
    by_name = arms(runs)
    val = {name: fmean(val_score(run, by.score) for run in arm) for name, arm in by_name.items()}
    ranked = sorted(
        by_name.items(), key=lambda named: by.place(val[named[0]])
    )  # without val scores: last
    rows = [_row(name, arm, ranked[0][1], by) for name, arm in ranked]
    evidence = runs[0].evidence
    found = {
        "heads": evidence.heads,
        "ranked_by": by.score,
        "compared": list(dict.fromkeys((by.score, *evidence.heads))),
        "monitored": by.monitored,
        "arms": rows,
        "identity": evidence.identity,
        "n": len(evidence),
        "caveat": caveat(evidence),
        "phantom": runs[0].report["data"]["phantom"],
        "stage_score": stage_score(runs),
        "leaders": leaders([row["stages"] for row in rows], runs),
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(found, run_dir / "comparison.json")
    board = leaderboard(runs)
    board.to_csv(run_dir / "comparison.csv", index=False)
    (run_dir / "comparison.html").write_text(_page(found, dict(ranked), board), encoding="utf-8")
    _print(found, run_dir / "comparison.html")
    return found


def _comparable(folders: Sequence[str]) -> list[Finished]:
    """Return the named runs, each once; refuse runs that cannot be compared."""
    if not folders:
        raise Refusal(
            "no runs to compare; name their folders with runs=[A,B], latest:EXPERIMENT among them,"
            " or a sweep's folder"
        )
    runs = list(
        {run.folder.resolve(): run for folder in folders for run in read_all(Path(folder))}.values()
    )
    if len(runs) < 2:
        raise Refusal(
            "do=[compare] needs two finished runs or more; name their folders with runs=[A,B], or a"
            " sweep's folder"
        )
    first = runs[0]
    for run in runs[1:]:
        if run.evidence.kind != first.evidence.kind:
            said = (
                f"{first.folder} tells {first.evidence.kind}s and {run.folder} {run.evidence.kind}s"
            )
            raise Refusal(f"{said}, which no score measures alike; compare runs of one task")
        if run.evidence.identity != first.evidence.identity:
            mend = "compare runs on one test set, with the same datamodule.seed"
            raise Refusal(
                f"{first.folder} and {run.folder} were judged on different images; {mend}"
            )
        if dict(zip(run.evidence.ids, run.evidence.groups, strict=True)) != dict(
            zip(first.evidence.ids, first.evidence.groups, strict=True)
        ):
            raise Refusal(
                f"{first.folder} and {run.folder} group the same images differently; evaluate both"
                " with the same datamodule.group"
            )
    return runs


def _row(name: str, arm: list[Finished], first: list[Finished], by: Ranking) -> dict[str, Any]:
    reports = [run.report for run in arm]
    judged, heads = arm[0].judged, arm[0].evidence.heads
    test = {score: [run.score(judged, score) for run in arm] for score in heads}
    config = reports[0].get("config") or {}
    single = whole(reports[0]["scores"][judged])
    gaps = (
        None
        if arm is first
        else differences([run.evidence for run in first], [run.evidence for run in arm])
    )
    return {
        "title": name,
        "runs": [str(run.folder) for run in arm],
        "val": fmean(val_score(run, by.score) for run in arm),
        "test": {score: fmean(values) for score, values in test.items()},
        "sd": {score: stdev(values) if len(values) > 1 else None for score, values in test.items()},
        "interval": (
            {score: {end: single[score][end] for end in ("low", "high")} for score in heads}
            if len(arm) == 1
            else None
        ),
        "differences": (
            None if gaps is None else {score: asdict(gap) for score, gap in gaps.items()}
        ),
        "verdict": BEST if gaps is None else verdict(gaps[by.score], by.lower),
        "parameters": reports[0].get("parameters"),
        "resources": (
            {key: fmean(r["resources"][key] for r in reports) for key in _COST}
            if all(r.get("resources") for r in reports)
            else None
        ),
        "start": config.get("init_from") or "no earlier run",
        "stages": stages(arm),
    }


_COST = ("images_per_second", "peak_memory_gb", "train_seconds")


def _page(found: dict[str, Any], ranked: dict[str, list[Finished]], board: pd.DataFrame) -> str:
    gone = courses(ranked)
    words = {
        "title": "Comparison",
        "phantom": found["phantom"],
        "key": key(gone),
        "uncounted": uncounted(gone),
        "board": board.to_dict("records"),
    }
    return render(
        Path(__file__).parent,
        found=found,
        figures=figures(gone, f"val/{found['ranked_by']}"),
        **words,
    )


def _print(found: dict[str, Any], page: Path) -> None:
    console = Console()
    table = Table(
        "score",
        title=f"test, n = {found['n']}; ranked by val",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for arm in found["arms"]:
        table.add_column(f"{escape(arm['title'])}\n{len(arm['runs'])} run(s)", justify="right")
    table.add_row(f"val {found['ranked_by']}", *(number(arm["val"]) for arm in found["arms"]))
    for name in found["heads"]:
        spread = [
            f" ± {arm['sd'][name]:.4f}" if arm["sd"][name] is not None else ""
            for arm in found["arms"]
        ]
        table.add_row(
            name,
            *(
                number(arm["test"][name]) + sd
                for arm, sd in zip(found["arms"], spread, strict=True)
            ),
        )
    console.print(table)
    for arm in found["arms"][1:]:
        said = "; ".join(f"{name} {signed(arm['differences'][name])}" for name in found["compared"])
        about = f"{arm['verdict']} by test {found['ranked_by']}; {said}"
        console.print(
            f"{escape(arm['title'])} minus {escape(found['arms'][0]['title'])}: {escape(about)}",
            soft_wrap=True,
        )
    console.print(found["caveat"], style="dim")
    console.print(f"page: {page}", soft_wrap=True)
