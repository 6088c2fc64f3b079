"""Several seeds of one arm as one report: of each its folds out of fold or its test, then mean, spread and interval over patients and seeds."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callbacks.comparison.finished import overall_scores
from callbacks.report.content import ReportInput, build_report, write_json
from callbacks.report.judged import drop_near_duplicates, per_patient
from callbacks.report.template import render
from callbacks.runs.ensemble_command import ensemble_test_command
from callbacks.sweeps.matrix import common_monitor, fold_seed_matrix
from callbacks.sweeps.one_seed import (
    common_config,
    common_data,
    describe_fits,
    list_missing_fits,
    merge_folds,
)
from callbacks.sweeps.out_of_fold import TEST, SeedRuns, restrict_to_common_images
from callbacks.sweeps.over_seeds import seed_caveat, seed_statistics
from datamodules.refusal import UserError
from datamodules.whole_file import atomic_write
from lightning_modules.evidence import Evidence


def merge_seeds(seeds: Sequence[SeedRuns], folder: Path, title: str) -> tuple[dict[str, Any], Path]:
    """Writes report.json and report.html, and of folds a page of each seed's into `merged/seed*`.

    Args:
        seeds: Of one arm, also those that left nothing.
        folder: Where to.
        title: Of the page, to which their numbers are added.

    Returns:
        As in report.json, and the page.

    Raises:
        Refusal: the seeds were judged on different images.
    """
    there = [seed for seed in seeds if seed.fold_runs]
    fits = [fit for seed in there for fit in seed.fold_runs.values()]
    judged, first = there[0].evaluated_split, fits[0]
    rows = _seed_rows(there, folder, title)
    evidence, left_out = restrict_to_common_images({seed.seed: seed for seed in there})
    missing = list_missing_fits(seeds)
    if left_out:
        missing.append(
            f"all seeds are judged on the images that each of them has judged; {left_out} others"
            " are left out"
        )
    by = common_monitor(fits, evidence[there[0].seed]).score
    data = first.report["data"] if judged == TEST else common_data(first)
    splits = _collect_splits(there, evidence, set(data["near_duplicates"]["test_images"]))
    beside = {
        "scores": {split: seed_statistics(seen) for split, seen in splits.items()},
        "caveat": {
            split: seed_caveat(seen, "networks" if split == TEST != judged else "seeds")
            for split, seen in splits.items()
        },
        "ranked_by": by,
        "seeds": rows,
        "matrix": (
            {split: fold_seed_matrix(seeds, split, by, folder) for split in ("val", "test")}
            if judged != TEST
            else {}
        ),
        "new_cut": (
            judged != TEST
            and len({str(fit.config.get("datamodule", {}).get("seed")) for fit in fits}) > 1
        ),
    }
    whole = f"{first.folds} folds x {len(seeds)} seeds" if judged != TEST else f"{len(seeds)} seeds"
    run = ReportInput(
        f"{title}, {whole}",
        folder,
        {judged: splits[judged][0]},
        [],
        beside | describe_fits(fits, missing, folder),
        evaluated_split=judged,
    )
    folder.mkdir(parents=True, exist_ok=True)
    found = build_report(run, data) | {"config": common_config(first)}
    write_json(found, folder / "report.json")
    return found, _write_seeds_page(
        found,
        folder,
        ensemble_test_command(fits, folder)
        if judged != TEST and not list_missing_fits(seeds)
        else None,
    )


def _write_seeds_page(report: dict[str, Any], folder: Path, ensemble_command: str | None) -> Path:
    words = {
        "title": report["title"],
        "phantom": report["data"]["phantom"],
        "together": ensemble_command,
    }
    page = folder / "report.html"
    atomic_write(page, render(Path(__file__).parent, "seeds.html", found=report, **words).encode())
    return page


def _collect_splits(
    seeds: Sequence[SeedRuns], evidence: Mapping[int, Evidence], near_duplicates: set[str]
) -> dict[str, list[Evidence]]:
    """What is scored: the judged split of each seed, with its further views; of folds also test, by every network."""
    judged = seeds[0].evaluated_split
    found: dict[str, list[Evidence]] = {judged: list(evidence.values())}
    for seen in evidence.values():
        for split, view in (
            drop_near_duplicates({judged: seen}, near_duplicates)
            | per_patient({judged: seen}, judged)
        ).items():
            found.setdefault(split, []).append(view)
    other = TEST if judged != TEST else "val"
    beside = [
        fit.evidence[other]
        for seed in seeds
        for fit in seed.fold_runs.values()
        if other in fit.evidence
    ]
    if beside and len({seen.identity for seen in beside}) == 1:
        found[other] = beside
    return found


def _seed_rows(seeds: Sequence[SeedRuns], folder: Path, title: str) -> list[dict[str, Any]]:
    """Each seed by itself, also where one of them, or all together, cannot be merged."""
    rows, refused = [], None
    for seed in seeds:
        try:
            rows.append(_seed_row(seed, folder, title))
        except UserError as refusal:
            refused = refused or refusal
    if refused is not None:
        raise refused
    return rows


def _seed_row(seed_runs: SeedRuns, folder: Path, title: str) -> dict[str, Any]:
    """A seed by itself; its folds get a page of their own."""
    if seed_runs.evaluated_split == TEST:
        report, page = (
            seed_runs.fold_runs[None].report,
            seed_runs.fold_runs[None].folder / "report.html",
        )
    else:
        report, page = merge_folds(
            seed_runs, folder / "merged" / f"seed{seed_runs.seed}", title, is_one_of_several=True
        )
    single = overall_scores(report["scores"][seed_runs.evaluated_split])
    return {
        "seed": seed_runs.seed,
        "scores": {name: single[name]["value"] for name in report["heads"]},
        "n": single[report["heads"][0]]["n"],
        "fits": len(seed_runs.fold_runs),
        "of": len(seed_runs.fold_runs) + len(seed_runs.missing_reasons),
        "page": os.path.relpath(page, folder),
    }
