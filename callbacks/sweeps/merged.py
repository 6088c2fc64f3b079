"""Merges the fits of folds and seeds into one report.json and one page, at the end of a run of folds or of a multirun."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from callbacks import class_probabilities
from callbacks.report.table import print_table
from callbacks.sweeps.arms import arms_beside
from callbacks.sweeps.ensembling import command, shown
from callbacks.sweeps.folds import Fit, fits_of, read
from callbacks.sweeps.one_seed import one_seed
from callbacks.sweeps.out_of_fold import OneSeed, by_seed
from callbacks.sweeps.several_seeds import several_seeds
from datamodules.refusal import Refusal

OF_ONE_FOLD = re.compile(r", fold \d+ of \d+$")  # at the end of a title


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

    Nothing where neither was swept; where they cannot be merged, a sentence says why and the trials stand for themselves.

    Args:
        folder: Of the multirun, with a folder a trial.
    """
    fits = fits_of(folder)
    if all(fit.fold is None for fit in fits) and len({fit.seed for fit in fits}) < 2:
        return
    try:
        _merge_fits(fits, folder)
    except Refusal as refusal:
        print(f"the trials of {shown(folder)} are not merged: {refusal}", file=sys.stderr)


def _merge_fits(fits: list[Fit], folder: Path) -> None:
    arms = {arm: seeds for arm, seeds in by_seed(fits).items() if any(seed.fits for seed in seeds)}
    if not arms:
        raise Refusal("none of them was finished and tested")
    first = next(fit for seeds in arms.values() for seed in seeds for fit in seed.fits.values())
    title = OF_ONE_FOLD.sub("", str(first.config.get("title", first.report["title"])))
    merged = {
        arm: one_arm(seeds, folder if len(arms) == 1 else folder / "merged" / f"arm{number}", f"{title} ({arm})" if arm else title)
        for number, (arm, seeds) in enumerate(arms.items())
    }
    if len(arms) == 1:
        _finish(fits, *next(iter(merged.values())))
    else:
        arms_beside(arms, {arm: found for arm, (found, _) in merged.items()}, folder, title)


def one_arm(seeds: list[OneSeed], folder: Path, title: str) -> tuple[dict[str, Any], Path]:
    """The seeds of one arm; of one seed its folds alone.

    Args:
        seeds: Of the arm, also those that left nothing.
        folder: Where to.
        title: Of the page.

    Returns:
        As in report.json, and the page.
    """
    return one_seed(seeds[0], folder, title) if len(seeds) == 1 else several_seeds(seeds, folder, title)


def _finish(fits: list[Fit], found: dict[str, Any], page: Path) -> None:
    """The short table, what is missing, and where nothing is, the folds' probabilities together and how to go on."""
    print_table(found, page)
    for sentence in found["lacking"]:
        print(sentence, file=sys.stderr)
    if not found["lacking"] and fits[0].fold is not None:
        class_probabilities.merge([fit.folder for fit in fits], page.parent)
        print(f"all {len(fits)} networks together on test: {command(fits, page.parent)}")
