"""Pool the out-of-fold predictions of cross-validation runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datamodules.errors import UserError
from evaluation.evidence import Evidence
from reporting.fold_runs import FoldRun

OUT_OF_FOLD, TEST = "out_of_fold", "test"


@dataclass(frozen=True)
class SeedRuns:
    """Fits of one seed of one variant.

    Attributes:
        variant: Variant in words, empty if there is only one.
        seed: Seed of all of them.
        fold_runs: Finished fits by fold; without folds one, under None.
        missing_reasons: Fold -> reason why it is missing.
    """

    variant: str
    seed: int
    fold_runs: dict[int | None, FoldRun]
    missing_reasons: dict[int | None, str]

    @property
    def name(self) -> str:
        """Name such as `seed 1 (lr=0.01)`."""
        return f"seed {self.seed} ({self.variant})" if self.variant else f"seed {self.seed}"

    @property
    def evaluated_split(self) -> str:
        """Name of the evaluated split: `out_of_fold` or, without folds, `test`."""
        return TEST if None in self.fold_runs else OUT_OF_FOLD

    @property
    def evidence(self) -> Evidence:
        """Evidence of the evaluated images, each with the rule that its fold's val chose."""
        return (
            self.fold_runs[None].evidence[TEST]
            if None in self.fold_runs
            else merge_out_of_fold(list(self.fold_runs.values()))
        )


def merge_out_of_fold(fold_runs: Sequence[FoldRun]) -> Evidence:
    """Merge the val evidence of the folds of one split.

    Raises:
        UserError: some images are val in two folds, so the folds are of different splits; or the
            classes or the grid differ.
    """
    first = fold_runs[0]
    seen: dict[str, FoldRun] = {}
    for fit in fold_runs:
        twice = next((id for id in fit.evidence["val"].ids.tolist() if id in seen), None)
        if twice is not None:
            raise UserError(
                f"'{twice}' is val in {seen[twice].folder} and in {fit.folder}, so these folds are"
                f" of different splits; {SAME_MULTIRUN_HINT}"
            )
        if _evaluation_key(fit) != _evaluation_key(first):
            raise UserError(
                f"{first.folder} and {fit.folder} were evaluated on other classes or another grid;"
                f" {SAME_MULTIRUN_HINT}"
            )
        seen |= dict.fromkeys(fit.evidence["val"].ids.tolist(), fit)
    return Evidence.merge([fit.evidence["val"] for fit in fold_runs])


SAME_MULTIRUN_HINT = (
    "run all folds in one multirun with folds=5 'fold=range(5)' and otherwise equal overrides"
)


def _evaluation_key(fold_run: FoldRun) -> tuple[Any, ...]:
    evidence = fold_run.evidence["val"]
    return evidence.kind, evidence.classes, evidence.evaluation_grid


def group_by_seed(fold_runs: Sequence[FoldRun]) -> dict[str, list[SeedRuns]]:
    """Group fits by variant and seed; each seed should have every fold of its variant.

    Seeds without a finished fit are included.
    """
    seeds = list(dict.fromkeys(fit.seed for fit in fold_runs))
    found: dict[str, list[SeedRuns]] = {}
    for variant in dict.fromkeys(fit.variant for fit in fold_runs):
        own = [fit for fit in fold_runs if fit.variant == variant]
        wanted = (
            list(range(max(fit.folds for fit in own)))
            if any(fit.fold is not None for fit in own)
            else [None]
        )
        for seed in seeds:
            of_seed = {fit.fold: fit for fit in own if fit.seed == seed}
            of_seed |= {fit.fold: fit for fit in own if fit.seed == seed and not fit.missing_reason}
            there = {
                fold: fit
                for fold, fit in of_seed.items()
                if not fit.missing_reason and _has_evidence(fit)
            }
            missing = {
                fold: _missing_reason(of_seed.get(fold, of_seed.get(None)))
                for fold in wanted
                if fold not in there
            }
            found.setdefault(variant, []).append(
                SeedRuns(
                    variant, seed, {fold: there[fold] for fold in wanted if fold in there}, missing
                )
            )
    return found


def _has_evidence(fold_run: FoldRun) -> bool:
    return (TEST if fold_run.fold is None else "val") in fold_run.evidence


def _missing_reason(fold_run: FoldRun | None) -> str:
    if fold_run is None:
        return "it was not run"
    return fold_run.missing_reason or "it was not tested after its fit, so it has no predictions"


def restrict_to_common_images(seeds: Mapping[Any, SeedRuns]) -> tuple[dict[Any, Evidence], int]:
    """Restrict the evidence of several seeds or variants to the images that all of them evaluated.

    Args:
        seeds: Fits by any name.

    Returns:
        Evidence by the same name; and how many images some evaluated and others did not, because
        fits are missing.

    Raises:
        UserError: no fit is missing and they still evaluated different images, or the same ones
            with another truth, grid or grouping.
    """
    evidence = {name: seed.evidence for name, seed in seeds.items()}
    whole = {name: evidence[name] for name, seed in seeds.items() if not seed.missing_reasons}
    _check_same_images(whole, seeds)
    ids = [set(seen.ids.tolist()) for seen in evidence.values()]
    common = set.intersection(*ids)
    if not common:
        raise UserError(f"no image was evaluated in all of them; {SAME_SPLIT_HINT}")
    cut = {
        name: seen if len(seen) == len(common) else seen.subset(np.isin(seen.ids, list(common)))
        for name, seen in evidence.items()
    }
    _check_same_images(cut, seeds)
    return cut, len(set.union(*ids)) - len(common)


SAME_SPLIT_HINT = "give all of them the same split with datamodule.seed=0"


def _check_same_images(evidence: Mapping[Any, Evidence], seeds: Mapping[Any, SeedRuns]) -> None:
    names = list(evidence)
    for name in names[1:]:
        first, other = evidence[names[0]], evidence[name]
        grouped = [
            dict(zip(seen.ids.tolist(), seen.groups.tolist(), strict=True))
            for seen in (first, other)
        ]
        if first.identity != other.identity or grouped[0] != grouped[1]:
            raise UserError(
                f"{seeds[names[0]].name} and {seeds[name].name} were evaluated on different images;"
                f" {SAME_SPLIT_HINT}"
            )


def stack_seeds(evidence: Sequence[Evidence]) -> Evidence:
    """Merge the evidence of several seeds, with each image once per seed."""
    return Evidence.merge(
        [
            replace(seen, ids=np.char.add(seen.ids, f" ({number})"))
            for number, seen in enumerate(evidence)
        ]
    )
