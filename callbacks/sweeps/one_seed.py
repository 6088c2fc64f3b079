"""The folds of one seed as one report: every image judged by the fit that did not see it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callbacks.comparison.finished import get_score
from callbacks.report.content import ReportInput, build_report, load_config, write_json
from callbacks.report.page import write_page
from callbacks.report.section import Section
from callbacks.sweeps.folds import FoldRun
from callbacks.sweeps.matrix import common_monitor, mean_and_sd
from callbacks.sweeps.out_of_fold import OUT_OF_FOLD, SeedRuns
from lightning_modules import evidence_file


def merge_folds(
    seed_runs: SeedRuns, folder: Path, title: str, is_one_of_several: bool = False
) -> tuple[dict[str, Any], Path]:
    """Writes `evidence/out_of_fold.npz`, report.json and report.html.

    Args:
        seed_runs: Some of its folds at least.
        folder: Where to.
        title: Of the page, to which the number of folds is added; the same for all seeds, which a
            comparison then takes as one arm.
        is_one_of_several: Whether other seeds have such pages too.

    Returns:
        As in report.json, and the page.
    """
    evidence, fits = seed_runs.evidence, list(seed_runs.fold_runs.values())
    evidence_file.write_evidence(evidence, folder / "evidence" / f"{OUT_OF_FOLD}.npz")
    by = common_monitor(fits, evidence).score
    rows = [_fold_row(fit, by, folder) for fit in fits]
    over = {split: mean_and_sd(row[split] for row in rows) for split in ("val", "test")}
    beside = {"folds": rows, "folds_score": by} | {
        f"folds_{name}": {split: of[name] for split, of in over.items()} for name in ("mean", "sd")
    }
    missing = list_missing_fits([seed_runs])
    whole = len(fits) + len(seed_runs.missing_reasons)
    title = f"{title}, {whole} folds" if not missing else f"{title}, {len(fits)} of {whole} folds"
    run = ReportInput(
        title,
        folder,
        {OUT_OF_FOLD: evidence},
        [],
        beside | describe_fits(fits, missing, folder),
        evaluated_split=OUT_OF_FOLD,
    )
    found = build_report(run, common_data(fits[0]))
    found["config"] = load_config(folder) or common_config(fits[0])
    if missing:
        found["caveat"] = {
            split: f"{said}; only of {len(fits)} of {whole} folds"
            for split, said in found["caveat"].items()
        }
    write_json(found, folder / "report.json")
    return found, write_page(
        found, run.evidence, [], folder, _seed_sections(seed_runs, missing, is_one_of_several)
    )


def _seed_sections(
    seed_runs: SeedRuns, missing: Sequence[str], is_one_of_several: bool
) -> list[Section]:
    found = (
        [
            Section(
                "Missing folds",
                "What they would have judged is in no number of this page.",
                messages=missing,
            )
        ]
        if missing
        else []
    )
    if is_one_of_several:
        found.append(
            Section(
                "Seed",
                "The other seeds, and the mean of all, are on the page of the multirun.",
                messages=[f"This is seed {seed_runs.seed}"],
            )
        )
    return found


def list_missing_fits(seeds: Sequence[SeedRuns]) -> list[str]:
    """One sentence for each fit that is not there."""
    return [
        f"{'' if fold is None else f'fold {fold} of '}seed {seed.seed} is missing: {why}"
        for seed in seeds
        for fold, why in seed.missing_reasons.items()
    ]


def describe_fits(
    fold_runs: Sequence[FoldRun], missing: Sequence[str], folder: Path
) -> dict[str, Any]:
    """What report.json says of the fits, by which they are found again as one ensemble."""
    return {
        "fits": [
            {"fold": fit.fold, "seed": fit.seed, "folder": os.path.relpath(fit.folder, folder)}
            for fit in fold_runs
        ],
        "lacking": list(missing),
    }


def common_data(fold_run: FoldRun) -> dict[str, Any]:
    """What one fit said of the data, as far as it holds for all of them: nothing of test is judged here."""
    data = fold_run.report["data"]
    return data | {"splits": {}, "near_duplicates": data["near_duplicates"] | {"test_images": []}}


def common_config(fold_run: FoldRun) -> dict[str, Any]:
    """What all fits were asked for: one's configuration without its fold."""
    return fold_run.config | {
        "fold": None,
        "datamodule": fold_run.config.get("datamodule", {}) | {"fold": None},
    }


def _fold_row(fold_run: FoldRun, score: str, folder: Path) -> dict[str, Any]:
    page = os.path.relpath(fold_run.folder / "report.html", folder)
    return {
        "fold": fold_run.fold,
        "val": get_score(fold_run.report, "val", score),
        "test": get_score(fold_run.report, "test", score),
        "page": page,
    }
