"""Several seeds of one arm as one report: of each its folds out of fold or its test, then mean, spread and interval over patients and seeds."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from callbacks.comparison.finished import whole
from callbacks.report.content import Run, content, write_json
from callbacks.report.judged import by_patient, without_lookalikes
from callbacks.report.template import render
from callbacks.sweeps.ensembling import command
from callbacks.sweeps.matrix import matrix, monitored
from callbacks.sweeps.one_seed import config_of, data_of, lacking, listed, one_seed
from callbacks.sweeps.out_of_fold import TEST, OneSeed, alike
from callbacks.sweeps.over_seeds import caveat_of, over_seeds
from datamodules.refusal import Refusal
from datamodules.whole_file import write_whole
from lightning_modules.evidence import Evidence


def several_seeds(
    seeds: Sequence[OneSeed], folder: Path, title: str
) -> tuple[dict[str, Any], Path]:
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
    there = [seed for seed in seeds if seed.fits]
    fits = [fit for seed in there for fit in seed.fits.values()]
    judged, first = there[0].judged, fits[0]
    rows = _rows(there, folder, title)
    evidence, left_out = alike({seed.seed: seed for seed in there})
    missing = lacking(seeds)
    if left_out:
        missing.append(
            f"all seeds are judged on the images that each of them has judged; {left_out} others"
            " are left out"
        )
    by = monitored(fits, evidence[there[0].seed]).score
    data = first.report["data"] if judged == TEST else data_of(first)
    splits = _splits(there, evidence, set(data["near_duplicates"]["test_images"]))
    beside = {
        "scores": {split: over_seeds(seen) for split, seen in splits.items()},
        "caveat": {
            split: caveat_of(seen, "networks" if split == TEST != judged else "seeds")
            for split, seen in splits.items()
        },
        "ranked_by": by,
        "seeds": rows,
        "matrix": (
            {split: matrix(seeds, split, by, folder) for split in ("val", "test")}
            if judged != TEST
            else {}
        ),
        "new_cut": (
            judged != TEST
            and len({str(fit.config.get("datamodule", {}).get("seed")) for fit in fits}) > 1
        ),
    }
    whole = f"{first.folds} folds x {len(seeds)} seeds" if judged != TEST else f"{len(seeds)} seeds"
    run = Run(
        f"{title}, {whole}",
        folder,
        {judged: splits[judged][0]},
        [],
        beside | listed(fits, missing, folder),
        judged=judged,
    )
    folder.mkdir(parents=True, exist_ok=True)
    found = content(run, data) | {"config": config_of(first)}
    write_json(found, folder / "report.json")
    return found, _page(
        found, folder, command(fits, folder) if judged != TEST and not lacking(seeds) else None
    )


def _page(found: dict[str, Any], folder: Path, together: str | None) -> Path:
    words = {"title": found["title"], "phantom": found["data"]["phantom"], "together": together}
    page = folder / "report.html"
    write_whole(page, render(Path(__file__).parent, "seeds.html", found=found, **words).encode())
    return page


def _splits(
    seeds: Sequence[OneSeed], evidence: Mapping[int, Evidence], copied: set[str]
) -> dict[str, list[Evidence]]:
    """What is scored: the judged split of each seed, with its further views; of folds also test, by every network."""
    judged = seeds[0].judged
    found: dict[str, list[Evidence]] = {judged: list(evidence.values())}
    for seen in evidence.values():
        for split, view in (
            without_lookalikes({judged: seen}, copied) | by_patient({judged: seen}, judged)
        ).items():
            found.setdefault(split, []).append(view)
    other = TEST if judged != TEST else "val"
    beside = [
        fit.evidence[other] for seed in seeds for fit in seed.fits.values() if other in fit.evidence
    ]
    if beside and len({seen.identity for seen in beside}) == 1:
        found[other] = beside
    return found


def _rows(seeds: Sequence[OneSeed], folder: Path, title: str) -> list[dict[str, Any]]:
    """Each seed by itself, also where one of them, or all together, cannot be merged."""
    rows, refused = [], None
    for seed in seeds:
        try:
            rows.append(_row(seed, folder, title))
        except Refusal as refusal:
            refused = refused or refusal
    if refused is not None:
        raise refused
    return rows


def _row(seed: OneSeed, folder: Path, title: str) -> dict[str, Any]:
    """A seed by itself; its folds get a page of their own."""
    if seed.judged == TEST:
        report, page = seed.fits[None].report, seed.fits[None].folder / "report.html"
    else:
        report, page = one_seed(
            seed, folder / "merged" / f"seed{seed.seed}", title, of_several=True
        )
    single = whole(report["scores"][seed.judged])
    return {
        "seed": seed.seed,
        "scores": {name: single[name]["value"] for name in report["heads"]},
        "n": single[report["heads"][0]]["n"],
        "fits": len(seed.fits),
        "of": len(seed.fits) + len(seed.lacking),
        "page": os.path.relpath(page, folder),
    }
