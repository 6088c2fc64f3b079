"""Merges the fits of folds and seeds into one report.json and one page, at the end of a run of folds or of a multirun."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from callbacks import class_probabilities
from callbacks.report.table import print_table
from callbacks.runs.quoting import from_here
from callbacks.sweeps.arms import arms_beside
from callbacks.sweeps.ensembling import command
from callbacks.sweeps.folds import Fit, fits_of, read
from callbacks.sweeps.one_seed import one_seed
from callbacks.sweeps.out_of_fold import OUT_OF_FOLD, OneSeed, by_seed
from callbacks.sweeps.several_seeds import several_seeds
from datamodules.refusal import Refusal

OF_ONE_FOLD = re.compile(r", fold \d+ of \d+(?= \(|$)")  # in a title, before its note on leaks


@rank_zero_only
def merge_run(folder: Path, folds: int, title: str) -> None:
    """The folds of one run, on the first process alone: `evidence/out_of_fold.npz`, report.json and report.html in its folder.

    Args:
        folder: Of the run, with `fold0`, `fold1`, ...
        folds: How many.
        title: Of the run.

    Raises:
        Refusal: a fold left no evidence, or it cannot be read.
    """
    fits = [replace(read(folder / f"fold{fold}"), folds=folds) for fold in range(folds)]
    for fit in fits:
        if fit.lacking:
            raise Refusal(f"{fit.folder} cannot be merged with the other folds: {fit.lacking}")
    _finish(fits, *one_arm(by_seed(fits)[""], folder, title))


def merge_sweep(folder: Path) -> None:
    """What a multirun over folds or seeds leaves together in its folder.

    Nothing where neither was swept; where they cannot be merged, a sentence says why and the trials
    stand for themselves.

    Args:
        folder: Of the multirun, with a folder a trial.
    """
    fits = fits_of(folder)
    if all(fit.fold is None for fit in fits) and len({fit.seed for fit in fits}) < 2:
        return
    try:
        _merge_fits(fits, folder)
    except Refusal as refusal:
        print(f"the trials of {from_here(folder)} are not merged: {refusal}", file=sys.stderr)


def _merge_fits(fits: list[Fit], folder: Path) -> None:
    arms = {arm: seeds for arm, seeds in by_seed(fits).items() if any(seed.fits for seed in seeds)}
    if not arms:
        raise Refusal("none of them was finished and tested")
    places = {
        arm: folder if len(arms) == 1 else folder / "merged" / f"arm{number}"
        for number, arm in enumerate(arms)
    }
    titles = {arm: _title(seeds) for arm, seeds in arms.items()}
    merged = {}
    for arm, seeds in _of_one_design(arms).items():
        try:
            merged[arm] = one_arm(
                seeds, places[arm], f"{titles[arm]} ({arm})" if arm else titles[arm]
            )
        except Refusal as refusal:
            _refused(refusal, arm, places[arm])
    if len(arms) == 1 and merged:
        _finish(fits, *merged[next(iter(arms))])
    elif len(merged) > 1:
        arms_beside(
            arms,
            {arm: found for arm, (found, _) in merged.items()},
            folder,
            " and ".join(dict.fromkeys(titles[arm] for arm in merged)),
        )
    else:
        for found, page in merged.values():
            print_table(found, page)


def _title(seeds: Sequence[OneSeed]) -> str:
    """Of an arm, which its own fits say."""
    first = next(fit for seed in seeds for fit in seed.fits.values())
    return OF_ONE_FOLD.sub("", str(first.config.get("title", first.report["title"])))


def _of_one_design(arms: Mapping[str, list[OneSeed]]) -> dict[str, list[OneSeed]]:
    """Arms that are judged in one way: where some have folds, those without are left out, because their test is nothing out of fold."""
    folded = {
        arm: seeds
        for arm, seeds in arms.items()
        if any(seed.fits and seed.judged == OUT_OF_FOLD for seed in seeds)
    }
    without = [arm for arm in arms if arm not in folded]
    if folded and without:
        print(
            f"not merged: {'; '.join(without)} has no folds, and other trials here have; make a"
            " multirun of each",
            file=sys.stderr,
        )
    return folded or dict(arms)


def _refused(refusal: Refusal, arm: str, place: Path) -> None:
    """Why an arm is not merged, and where each of its seeds stands by itself."""
    pages = [from_here(path) for path in sorted(place.glob("merged/seed*/report.html"))]
    each = f"; each seed by itself: {', '.join(map(str, pages))}" if pages else ""
    print(
        f"the trials of {arm or from_here(place)} are not merged: {refusal}{each}", file=sys.stderr
    )


def one_arm(seeds: list[OneSeed], folder: Path, title: str) -> tuple[dict[str, Any], Path]:
    """The seeds of one arm; of one seed its folds alone.

    Args:
        seeds: Of the arm, also those that left nothing.
        folder: Where to.
        title: Of the page.

    Returns:
        As in report.json, and the page.
    """
    return (
        one_seed(seeds[0], folder, title)
        if len(seeds) == 1
        else several_seeds(seeds, folder, title)
    )


def _finish(fits: list[Fit], found: dict[str, Any], page: Path) -> None:
    """The short table, what is missing, and where nothing is, the folds' probabilities together and how to go on."""
    print_table(found, page)
    for sentence in found["lacking"]:
        print(sentence, file=sys.stderr)
    if not found["lacking"] and fits[0].fold is not None:
        class_probabilities.merge([fit.folder for fit in fits], page.parent)
        print(f"all {len(fits)} networks together on test: {command(fits, page.parent)}")
