"""The folds of one run as one report: every image judged by the fit that did not see it."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from callbacks.comparison.finished import score_of
from callbacks.report.content import Run, content, write_json
from callbacks.report.page import write_page
from callbacks.report.table import print_table
from lightning_modules import evidence_file
from lightning_modules.evidence import Evidence


@rank_zero_only
def merge(folder: Path, folds: int, title: str) -> None:
    """On the first process alone: reads `fold*/evidence/val.npz`, writes `evidence/out_of_fold.npz`, report.json and report.html into `folder`.

    Each image keeps the rule of its own fold, which that fold's val chose.
    """
    parts = [evidence_file.read(folder / f"fold{fold}" / "evidence" / "val.npz") for fold in range(folds)]
    merged = Evidence.merge(parts)
    evidence_file.write(merged, folder / "evidence" / "out_of_fold.npz")
    reports = [json.loads((folder / f"fold{fold}" / "report.json").read_text(encoding="utf-8")) for fold in range(folds)]
    rows = [_row(fold, report, merged.heads[0]) for fold, report in enumerate(reports)]
    spread = partial(np.nanstd, ddof=1)
    beside = {"folds": rows, "folds_mean": _over(rows, np.nanmean), "folds_sd": _over(rows, spread), "folds_score": merged.heads[0]}
    run = Run(f"{title}, {folds} folds", folder, {"out_of_fold": merged}, [], beside, judged="out_of_fold")
    data = reports[0]["data"] | {"splits": {}}
    data["near_duplicates"]["test_images"] = []  # nothing of test is judged here
    found = content(run, data)
    write_json(found, folder / "report.json")
    print_table(found, write_page(found, run.evidence, [], folder))


def _row(fold: int, report: dict[str, Any], head: str) -> dict[str, Any]:
    return {"fold": fold, "val": score_of(report, "val", head), "test": score_of(report, "test", head), "page": f"fold{fold}/report.html"}


def _over(rows: list[dict[str, Any]], measure: Any) -> dict[str, float]:
    return {name: float(measure([row[name] for row in rows])) for name in ("val", "test")}
