"""Merge folds and seeds into one report of out-of-fold predictions."""

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from datamodules.sampling.hard_example_scores import merge_fold_scores
from evaluation.bootstrap import seed_caveat, seed_statistics
from evaluation.evidence import Evidence
from evaluation.views import drop_near_duplicates, per_patient
from reporting.commands import ensemble_test_command, relative_to_cwd
from reporting.fold_runs import FoldRun, load_fold_run, load_fold_runs
from reporting.out_of_fold import (
    OUT_OF_FOLD,
    TEST,
    SeedRuns,
    group_by_seed,
    restrict_to_common_images,
)
from reporting.page import write_page
from reporting.ranking import Ranking, choose_ranking, get_monitor
from reporting.relative_paths import page_folders
from reporting.rendering import render
from reporting.report_data import ReportInput, build_report
from reporting.run_folder import RunFolder, get_score, overall_scores
from reporting.sections import Section
from reporting.tables import print_table
from reporting.variant_comparison import compare_variants


def common_monitor(fold_runs: Sequence[FoldRun], evidence: Evidence) -> Ranking:
    """Return the score that all fits monitored, else the first headline metric."""
    head = evidence.headline_metrics[0]
    return choose_ranking(
        [get_monitor(fit.config, head) for fit in fold_runs],
        {score.name for score in evidence.metrics},
        head,
    )


def fold_seed_matrix(
    seeds: Sequence[SeedRuns], split: str, score: str, folder: Path
) -> dict[str, Any]:
    """Build the matrix of values, pages and means; None if a fit is missing or its score undefined.

    It has a row per fold and a column per seed.

    Args:
        seeds: Seeds of the columns, including seeds without a finished fit.
        split: Split of the score.
        score: Name of the score.
        folder: Folder from which pages are linked.
    """
    folds = sorted(
        {
            fold
            for seed in seeds
            for fold in (*seed.fold_runs, *seed.missing_reasons)
            if fold is not None
        }
    )
    cells = [[_matrix_cell(seed, fold, split, score, folder) for seed in seeds] for fold in folds]
    values = [[cell["value"] for cell in row] for row in cells]
    return {
        "folds": folds,
        "seeds": [seed.seed for seed in seeds],
        "cells": cells,
        "of_folds": [mean_and_sd(row) for row in values],
        "of_seeds": [mean_and_sd(column) for column in zip(*values, strict=True)],
        "of_all": mean_and_sd([value for row in values for value in row]),
    }


def _matrix_cell(
    seed_runs: SeedRuns, fold: int, split: str, score: str, folder: Path
) -> dict[str, Any]:
    fit = seed_runs.fold_runs.get(fold)
    value = get_score(fit.report, split, score) if fit else float("nan")
    page = os.path.relpath(fit.folder / "report.html", folder) if fit else None
    return {
        "value": value if value == value else None,
        "page": page,
        "why": seed_runs.missing_reasons.get(fold),
    }


def mean_and_sd(values: Iterable[float | None]) -> dict[str, float | None]:
    """Return mean and standard deviation of the known values; None where there are too few."""
    known = [value for value in values if value is not None and value == value]
    return {"mean": fmean(known) if known else None, "sd": stdev(known) if len(known) > 1 else None}


def merge_folds(
    seed_runs: SeedRuns, folder: Path, title: str, is_one_of_several: bool = False
) -> tuple[dict[str, Any], Path]:
    """Write `evidence/out_of_fold.npz`, report.json and report.html of one seed's folds.

    Every image is evaluated by the fit that did not see it.

    Args:
        seed_runs: Fits of the seed, at least one of them finished.
        folder: Output folder.
        title: Title of the page, to which the number of folds is added; the same for all seeds,
            which a comparison then takes as one variant.
        is_one_of_several: True if other seeds have such pages too.

    Returns:
        Contents of report.json, and the page.
    """
    evidence, fits = seed_runs.evidence, list(seed_runs.fold_runs.values())
    output = RunFolder(folder)
    output.write_evidence(OUT_OF_FOLD, evidence)
    by = common_monitor(fits, evidence).score
    rows = [_fold_row(fit, by, folder) for fit in fits]
    over = {split: mean_and_sd(row[split] for row in rows) for split in ("val", "test")}
    extras = {"folds": rows, "folds_score": by} | {
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
        extras | describe_fits(fits, missing, folder),
        evaluated_split=OUT_OF_FOLD,
    )
    found = build_report(run, common_data(fits[0]))
    found["config"] = output.config or common_config(fits[0])
    if missing:
        found["caveat"] = {
            split: f"{caveat}; only {len(fits)} of {whole} folds are included"
            for split, caveat in found["caveat"].items()
        }
    output.write_report(found)
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
                "The images of these folds are part of no number on this page.",
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
                "The page of the multirun shows the other seeds and the mean over all seeds.",
                messages=[f"This page shows seed {seed_runs.seed}."],
            )
        )
    return found


def list_missing_fits(seeds: Sequence[SeedRuns]) -> list[str]:
    """Return one sentence for each missing fit."""
    return [
        f"{'' if fold is None else f'fold {fold} of '}seed {seed.seed} is missing: {why}"
        for seed in seeds
        for fold, why in seed.missing_reasons.items()
    ]


def describe_fits(
    fold_runs: Sequence[FoldRun], missing: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Return the fields of report.json that list the fits, from which an ensemble is made."""
    return {
        "fits": [
            {"fold": fit.fold, "seed": fit.seed, "folder": os.path.relpath(fit.folder, folder)}
            for fit in fold_runs
        ],
        "missing_fits": list(missing),
    }


def common_data(fold_run: FoldRun) -> dict[str, Any]:
    """Return the data of one fit's report, without the splits and the near duplicates of test.

    What is left holds for all fits; no image of test is evaluated here.
    """
    data = fold_run.report["data"]
    return data | {"splits": {}, "near_duplicates": data["near_duplicates"] | {"test_images": []}}


def common_config(fold_run: FoldRun) -> dict[str, Any]:
    """Return the configuration that all fits share: one's own without its fold."""
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


def merge_seeds(seeds: Sequence[SeedRuns], folder: Path, title: str) -> tuple[dict[str, Any], Path]:
    """Write report.json and report.html, and for folds a page of each seed into `merged/seed*`.

    Args:
        seeds: Seeds of one variant, also those without a finished fit.
        folder: Output folder.
        title: Title of the page, to which the numbers of folds and seeds are added.

    Returns:
        Contents of report.json, and the page.

    Raises:
        UserError: the seeds were evaluated on different images.
    """
    there = [seed for seed in seeds if seed.fold_runs]
    fits = [fit for seed in there for fit in seed.fold_runs.values()]
    evaluated_split, first = there[0].evaluated_split, fits[0]
    rows = _seed_rows(there, folder, title)
    evidence, left_out = restrict_to_common_images({seed.seed: seed for seed in there})
    missing = list_missing_fits(seeds)
    if left_out:
        missing.append(
            f"all seeds are compared on the images that each of them evaluated; {left_out} others"
            " are left out"
        )
    by = common_monitor(fits, evidence[there[0].seed]).score
    data = first.report["data"] if evaluated_split == TEST else common_data(first)
    splits = _collect_splits(there, evidence, set(data["near_duplicates"]["test_images"]))
    extras = {
        "scores": {split: seed_statistics(seen) for split, seen in splits.items()},
        "caveat": {
            split: seed_caveat(seen, "networks" if split == TEST != evaluated_split else "seeds")
            for split, seen in splits.items()
        },
        "ranked_by": by,
        "seeds": rows,
        "matrix": (
            {split: fold_seed_matrix(seeds, split, by, folder) for split in ("val", "test")}
            if evaluated_split != TEST
            else {}
        ),
        "new_cut": (
            evaluated_split != TEST
            and len({str(fit.config.get("datamodule", {}).get("seed")) for fit in fits}) > 1
        ),
    }
    whole = (
        f"{first.folds} folds x {len(seeds)} seeds"
        if evaluated_split != TEST
        else f"{len(seeds)} seeds"
    )
    run = ReportInput(
        f"{title}, {whole}",
        folder,
        {evaluated_split: splits[evaluated_split][0]},
        [],
        extras | describe_fits(fits, missing, folder),
        evaluated_split=evaluated_split,
    )
    folder.mkdir(parents=True, exist_ok=True)
    found = build_report(run, data) | {"config": common_config(first)}
    RunFolder(folder).write_report(found)
    return found, _write_seeds_page(
        found,
        folder,
        ensemble_test_command(folder)
        if evaluated_split != TEST and not list_missing_fits(seeds)
        else None,
    )


def _write_seeds_page(report: dict[str, Any], folder: Path, ensemble_command: str | None) -> Path:
    words = {
        "title": report["title"],
        "heading": report.get("heading", report["title"]),
        "phantom": report["data"]["phantom"],
        "together": ensemble_command,
    }
    page = folder / "report.html"
    atomic_write(
        page, render("seeds.html", page_folders(None, folder), found=report, **words).encode()
    )
    return page


def _collect_splits(
    seeds: Sequence[SeedRuns], evidence: Mapping[int, Evidence], near_duplicates: set[str]
) -> dict[str, list[Evidence]]:
    """Collect what is scored: the evaluated split of each seed, with its further views.

    The other of test and val, by every network, is added if all saw the same images.
    """
    evaluated_split = seeds[0].evaluated_split
    found: dict[str, list[Evidence]] = {evaluated_split: list(evidence.values())}
    for seen in evidence.values():
        for split, view in (
            drop_near_duplicates({evaluated_split: seen}, near_duplicates)
            | per_patient({evaluated_split: seen}, evaluated_split)
        ).items():
            found.setdefault(split, []).append(view)
    other = TEST if evaluated_split != TEST else "val"
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
    """Build the row of each seed; a refusal is raised after all of them were tried."""
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
    """Build the row of one seed; its folds get a page of their own."""
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
        "scores": {name: single[name]["value"] for name in report["headline_metrics"]},
        "n": single[report["headline_metrics"][0]]["n"],
        "fits": len(seed_runs.fold_runs),
        "of": len(seed_runs.fold_runs) + len(seed_runs.missing_reasons),
        "page": os.path.relpath(page, folder),
    }


FOLD_SUFFIX = re.compile(r", fold \d+ of \d+(?= \(|$)")  # in a title, before its note on leaks


def merge_run_folds(folder: Path, folds: int, title: str) -> None:
    """Merge the folds of one run.

    It writes `evidence/out_of_fold.npz`, report.json and report.html into the run's folder.

    Args:
        folder: Folder of the run, with `fold0`, `fold1`, ...
        folds: Number of folds.
        title: Title of the run.

    Raises:
        UserError: a fold left no evidence, or it cannot be read.
    """
    fits = [replace(load_fold_run(folder / f"fold{fold}"), folds=folds) for fold in range(folds)]
    for fit in fits:
        if fit.missing_reason:
            raise UserError(
                f"{fit.folder} cannot be merged with the other folds: {fit.missing_reason}"
            )
    _finish_merge(fits, *merge_variant(group_by_seed(fits)[""], folder, title))


def merge_sweep_runs(folder: Path) -> None:
    """Merge the fits of a multirun over folds or seeds into a report in its folder.

    It does nothing if neither was swept. If they cannot be merged, a sentence says why, and each
    trial keeps its own page.

    Args:
        folder: Folder of the multirun, with a folder per trial.
    """
    fits = load_fold_runs(folder)
    if all(fit.fold is None for fit in fits) and len({fit.seed for fit in fits}) < 2:
        return
    try:
        _merge_variants(fits, folder)
    except UserError as refusal:
        print(f"the trials of {relative_to_cwd(folder)} are not merged: {refusal}", file=sys.stderr)


def _merge_variants(fold_runs: list[FoldRun], folder: Path) -> None:
    variants = {
        variant: seeds
        for variant, seeds in group_by_seed(fold_runs).items()
        if any(seed.fold_runs for seed in seeds)
    }
    if not variants:
        raise UserError("none of them was finished and tested")
    places = {
        variant: folder if len(variants) == 1 else folder / "merged" / f"variant{number}"
        for number, variant in enumerate(variants)
    }
    titles = {variant: _variant_title(seeds) for variant, seeds in variants.items()}
    merged = {}
    for variant, seeds in _select_one_design(variants).items():
        try:
            merged[variant] = merge_variant(
                seeds,
                places[variant],
                f"{titles[variant]} ({variant})" if variant else titles[variant],
            )
        except UserError as refusal:
            _print_merge_error(refusal, variant, places[variant])
    if len(variants) == 1 and merged:
        _finish_merge(fold_runs, *merged[next(iter(variants))])
    elif len(merged) > 1:
        compare_variants(
            variants,
            {variant: found for variant, (found, _) in merged.items()},
            folder,
            " and ".join(dict.fromkeys(titles[variant] for variant in merged)),
        )
    else:
        for found, page in merged.values():
            print_table(found, page)


def _variant_title(seeds: Sequence[SeedRuns]) -> str:
    """Return the title of a variant from its own fits."""
    first = next(fit for seed in seeds for fit in seed.fold_runs.values())
    return FOLD_SUFFIX.sub("", str(first.config.get("title", first.report["title"])))


def _select_one_design(variants: Mapping[str, list[SeedRuns]]) -> dict[str, list[SeedRuns]]:
    """Select the variants that are evaluated in the same way.

    If some have folds, those without are left out, because they have no out-of-fold scores.
    """
    folded = {
        variant: seeds
        for variant, seeds in variants.items()
        if any(seed.fold_runs and seed.evaluated_split == OUT_OF_FOLD for seed in seeds)
    }
    without = [variant for variant in variants if variant not in folded]
    if folded and without:
        print(
            f"not merged: {'; '.join(without)} has no folds, and other trials here have; make a"
            " multirun of each",
            file=sys.stderr,
        )
    return folded or dict(variants)


def _print_merge_error(error: UserError, variant: str, folder: Path) -> None:
    """Print why a variant is not merged, and where the page of each of its seeds is."""
    pages = [relative_to_cwd(path) for path in sorted(folder.glob("merged/seed*/report.html"))]
    each = f"; each seed by itself: {', '.join(map(str, pages))}" if pages else ""
    print(
        f"the trials of {variant or relative_to_cwd(folder)} are not merged: {error}{each}",
        file=sys.stderr,
    )


def merge_variant(seeds: list[SeedRuns], folder: Path, title: str) -> tuple[dict[str, Any], Path]:
    """Merge the seeds of one variant; of a single seed its folds are merged.

    Args:
        seeds: Seeds of the variant, also those without a finished fit.
        folder: Output folder.
        title: Title of the page.

    Returns:
        Contents of report.json, and the page.
    """
    return (
        merge_folds(seeds[0], folder, title)
        if len(seeds) == 1
        else merge_seeds(seeds, folder, title)
    )


def _finish_merge(fold_runs: list[FoldRun], report: dict[str, Any], page: Path) -> None:
    """Print the short table and what is missing.

    If no fold is missing, the folds' probabilities are merged, and the command that tests all
    networks together is printed.
    """
    print_table(report, page)
    for sentence in report["missing_fits"]:
        print(sentence, file=sys.stderr)
    if not report["missing_fits"] and fold_runs[0].fold is not None:
        merge_fold_scores([fit.folder for fit in fold_runs], page.parent)
        print(
            f"all {len(fold_runs)} networks together on test: {ensemble_test_command(page.parent)}"
        )
