"""Merges the fits of folds and seeds into one report.json and one page, at the end of a run of folds or of a multirun."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from callbacks.merge_scores import merge_fold_scores
from callbacks.report.table import print_table
from callbacks.runs.ensemble_command import ensemble_test_command
from callbacks.runs.quoting import relative_to_cwd
from callbacks.sweeps.arms import compare_variants
from callbacks.sweeps.folds import FoldRun, load_fold_run, load_fold_runs
from callbacks.sweeps.one_seed import merge_folds
from callbacks.sweeps.out_of_fold import OUT_OF_FOLD, SeedRuns, group_by_seed
from callbacks.sweeps.several_seeds import merge_seeds
from datamodules.refusal import UserError

FOLD_SUFFIX = re.compile(r", fold \d+ of \d+(?= \(|$)")  # in a title, before its note on leaks


@rank_zero_only
def merge_run_folds(folder: Path, folds: int, title: str) -> None:
    """The folds of one run, on the first process alone: `evidence/out_of_fold.npz`, report.json and report.html in its folder.

    Args:
        folder: Of the run, with `fold0`, `fold1`, ...
        folds: How many.
        title: Of the run.

    Raises:
        Refusal: a fold left no evidence, or it cannot be read.
    """
    fits = [replace(load_fold_run(folder / f"fold{fold}"), folds=folds) for fold in range(folds)]
    for fit in fits:
        if fit.missing_reason:
            raise UserError(
                f"{fit.folder} cannot be merged with the other folds: {fit.missing_reason}"
            )
    _finish_merge(fits, *merge_variant(group_by_seed(fits)[""], folder, title))


def merge_sweep_runs(folder: Path) -> None:
    """What a multirun over folds or seeds leaves together in its folder.

    Nothing where neither was swept; where they cannot be merged, a sentence says why and the trials
    stand for themselves.

    Args:
        folder: Of the multirun, with a folder a trial.
    """
    fits = load_fold_runs(folder)
    if all(fit.fold is None for fit in fits) and len({fit.seed for fit in fits}) < 2:
        return
    try:
        _merge_variants(fits, folder)
    except UserError as refusal:
        print(f"the trials of {relative_to_cwd(folder)} are not merged: {refusal}", file=sys.stderr)


def _merge_variants(fold_runs: list[FoldRun], folder: Path) -> None:
    arms = {
        arm: seeds
        for arm, seeds in group_by_seed(fold_runs).items()
        if any(seed.fold_runs for seed in seeds)
    }
    if not arms:
        raise UserError("none of them was finished and tested")
    places = {
        arm: folder if len(arms) == 1 else folder / "merged" / f"arm{number}"
        for number, arm in enumerate(arms)
    }
    titles = {arm: _variant_title(seeds) for arm, seeds in arms.items()}
    merged = {}
    for arm, seeds in _select_one_design(arms).items():
        try:
            merged[arm] = merge_variant(
                seeds, places[arm], f"{titles[arm]} ({arm})" if arm else titles[arm]
            )
        except UserError as refusal:
            _print_merge_error(refusal, arm, places[arm])
    if len(arms) == 1 and merged:
        _finish_merge(fold_runs, *merged[next(iter(arms))])
    elif len(merged) > 1:
        compare_variants(
            arms,
            {arm: found for arm, (found, _) in merged.items()},
            folder,
            " and ".join(dict.fromkeys(titles[arm] for arm in merged)),
        )
    else:
        for found, page in merged.values():
            print_table(found, page)


def _variant_title(seeds: Sequence[SeedRuns]) -> str:
    """Of an arm, which its own fits say."""
    first = next(fit for seed in seeds for fit in seed.fold_runs.values())
    return FOLD_SUFFIX.sub("", str(first.config.get("title", first.report["title"])))


def _select_one_design(variants: Mapping[str, list[SeedRuns]]) -> dict[str, list[SeedRuns]]:
    """Arms that are judged in one way: where some have folds, those without are left out, because their test is nothing out of fold."""
    folded = {
        arm: seeds
        for arm, seeds in variants.items()
        if any(seed.fold_runs and seed.evaluated_split == OUT_OF_FOLD for seed in seeds)
    }
    without = [arm for arm in variants if arm not in folded]
    if folded and without:
        print(
            f"not merged: {'; '.join(without)} has no folds, and other trials here have; make a"
            " multirun of each",
            file=sys.stderr,
        )
    return folded or dict(variants)


def _print_merge_error(error: UserError, variant: str, folder: Path) -> None:
    """Why an arm is not merged, and where each of its seeds stands by itself."""
    pages = [relative_to_cwd(path) for path in sorted(folder.glob("merged/seed*/report.html"))]
    each = f"; each seed by itself: {', '.join(map(str, pages))}" if pages else ""
    print(
        f"the trials of {variant or relative_to_cwd(folder)} are not merged: {error}{each}",
        file=sys.stderr,
    )


def merge_variant(seeds: list[SeedRuns], folder: Path, title: str) -> tuple[dict[str, Any], Path]:
    """The seeds of one arm; of one seed its folds alone.

    Args:
        seeds: Of the arm, also those that left nothing.
        folder: Where to.
        title: Of the page.

    Returns:
        As in report.json, and the page.
    """
    return (
        merge_folds(seeds[0], folder, title)
        if len(seeds) == 1
        else merge_seeds(seeds, folder, title)
    )


def _finish_merge(fold_runs: list[FoldRun], report: dict[str, Any], page: Path) -> None:
    """The short table, what is missing, and where nothing is, the folds' probabilities together and how to go on."""
    print_table(report, page)
    for sentence in report["lacking"]:
        print(sentence, file=sys.stderr)
    if not report["lacking"] and fold_runs[0].fold is not None:
        merge_fold_scores([fit.folder for fit in fold_runs], page.parent)
        print(
            f"all {len(fold_runs)} networks together on test: {ensemble_test_command(fold_runs, page.parent)}"
        )
