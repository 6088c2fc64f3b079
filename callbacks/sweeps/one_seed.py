"""The folds of one seed as one report: every image judged by the fit that did not see it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callbacks.comparison.finished import score_of
from callbacks.report.content import Run, configuration, content, write_json
from callbacks.report.page import write_page
from callbacks.report.section import Section
from callbacks.sweeps.folds import Fit
from callbacks.sweeps.matrix import mean_sd, monitored
from callbacks.sweeps.out_of_fold import OUT_OF_FOLD, OneSeed
from lightning_modules import evidence_file


def one_seed(
    seed: OneSeed, folder: Path, title: str, of_several: bool = False
) -> tuple[dict[str, Any], Path]:
    """Writes `evidence/out_of_fold.npz`, report.json and report.html.

    Args:
        seed: Some of its folds at least.
        folder: Where to.
        title: Of the page, to which the number of folds is added; the same for all seeds, which a
            comparison then takes as one arm.
        of_several: Whether other seeds have such pages too.

    Returns:
        As in report.json, and the page.
    """
    evidence, fits = seed.evidence, list(seed.fits.values())
    evidence_file.write(evidence, folder / "evidence" / f"{OUT_OF_FOLD}.npz")
    by = monitored(fits, evidence).score
    rows = [_row(fit, by, folder) for fit in fits]
    over = {split: mean_sd(row[split] for row in rows) for split in ("val", "test")}
    beside = {"folds": rows, "folds_score": by} | {
        f"folds_{name}": {split: of[name] for split, of in over.items()} for name in ("mean", "sd")
    }
    missing = lacking([seed])
    whole = len(fits) + len(seed.lacking)
    title = f"{title}, {whole} folds" if not missing else f"{title}, {len(fits)} of {whole} folds"
    run = Run(
        title,
        folder,
        {OUT_OF_FOLD: evidence},
        [],
        beside | listed(fits, missing, folder),
        judged=OUT_OF_FOLD,
    )
    found = content(run, data_of(fits[0]))
    found["config"] = configuration(folder) or config_of(fits[0])
    if missing:
        found["caveat"] = {
            split: f"{said}; only of {len(fits)} of {whole} folds"
            for split, said in found["caveat"].items()
        }
    write_json(found, folder / "report.json")
    return found, write_page(found, run.evidence, [], folder, _sections(seed, missing, of_several))


def _sections(seed: OneSeed, missing: Sequence[str], of_several: bool) -> list[Section]:
    found = (
        [
            Section(
                "Missing folds",
                "What they would have judged is in no number of this page.",
                said=missing,
            )
        ]
        if missing
        else []
    )
    if of_several:
        found.append(
            Section(
                "Seed",
                "The other seeds, and the mean of all, are on the page of the multirun.",
                said=[f"This is seed {seed.seed}"],
            )
        )
    return found


def lacking(seeds: Sequence[OneSeed]) -> list[str]:
    """One sentence for each fit that is not there."""
    return [
        f"{'' if fold is None else f'fold {fold} of '}seed {seed.seed} is missing: {why}"
        for seed in seeds
        for fold, why in seed.lacking.items()
    ]


def listed(fits: Sequence[Fit], missing: Sequence[str], folder: Path) -> dict[str, Any]:
    """What report.json says of the fits, by which they are found again as one ensemble."""
    return {
        "fits": [
            {"fold": fit.fold, "seed": fit.seed, "folder": os.path.relpath(fit.folder, folder)}
            for fit in fits
        ],
        "lacking": list(missing),
    }


def data_of(fit: Fit) -> dict[str, Any]:
    """What one fit said of the data, as far as it holds for all of them: nothing of test is judged here."""
    data = fit.report["data"]
    return data | {"splits": {}, "near_duplicates": data["near_duplicates"] | {"test_images": []}}


def config_of(fit: Fit) -> dict[str, Any]:
    """What all fits were asked for: one's configuration without its fold."""
    return fit.config | {
        "fold": None,
        "datamodule": fit.config.get("datamodule", {}) | {"fold": None},
    }


def _row(fit: Fit, by: str, folder: Path) -> dict[str, Any]:
    page = os.path.relpath(fit.folder / "report.html", folder)
    return {
        "fold": fit.fold,
        "val": score_of(fit.report, "val", by),
        "test": score_of(fit.report, "test", by),
        "page": page,
    }
