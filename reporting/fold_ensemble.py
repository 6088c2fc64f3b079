"""Networks of all folds as one ensemble: its members, and the evidence for its rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from evaluation.evidence import Evidence
from reporting.fold_runs import FoldRun
from reporting.out_of_fold import group_by_seed, merge_out_of_fold, stack_seeds
from reporting.run_folder import RunFolder

MUST_MATCH = (
    "image_size",
    "module.classes",
    "module.exclusive",
    "module.net",
    "module.mean",
    "module.std",
    "module.scratch_normalization",
    "module.gamma",
    "datamodule.window",
    "datamodule.frame",
)


@dataclass(frozen=True)
class FoldEnsemble:
    """Ensemble of the networks of several runs.

    Attributes:
        folder: Folder that the user named.
        key: Configuration key that names it.
        members: Runs of every fold and seed.
    """

    folder: Path
    key: str
    members: list[FoldRun]

    @property
    def checkpoints(self) -> list[Path]:
        """Best checkpoint of each member."""
        return [RunFolder(fit.folder).checkpoint("best") for fit in self.members]

    @property
    def evidence(self) -> Evidence:
        """Out-of-fold evidence of single networks, with each image once per seed."""
        seeds = dict.fromkeys(fit.seed for fit in self.members)
        return stack_seeds(
            [merge_out_of_fold([fit for fit in self.members if fit.seed == seed]) for seed in seeds]
        )

    def check_not_trained_on(self, ids: Sequence[str], root: Path) -> None:
        """Refuse to test on images that a member was trained on.

        Args:
            ids: Ids of the test images.
            root: Root of their data set; equal ids in another data set are other images.
        """
        learned = {
            id
            for fit in self.members
            if self._data_root(fit) == root.expanduser().resolve()
            for id in fit.evidence["val"].ids.tolist()
        }
        seen = sorted(learned & set(ids))
        if seen:
            fix = (
                "test on the split of the folds, with the datamodule.seed and"
                " datamodule.split of their runs"
            )
            raise UserError(
                f"{self.key}={self.folder}: its networks were trained on {len(seen)} of the test"
                f" images, such as '{seen[0]}'; {fix}"
            )

    @staticmethod
    def _data_root(fold_run: FoldRun) -> Path:
        return Path(str(fold_run.config.get("datamodule", {}).get("root"))).expanduser().resolve()


def check_members(fold_runs: Sequence[FoldRun], folder: Path, key: str) -> None:
    """Refuse runs that cannot answer together.

    Args:
        fold_runs: Runs of every fold and seed.
        folder: Folder that the user named.
        key: Configuration key that names it.

    Raises:
        UserError: They are several variants, are no folds, lack one, or differ in their network.
    """
    variants = list(dict.fromkeys(fit.variant for fit in fold_runs))
    if len(variants) > 1:
        one = folder / "merged" / "variant0"
        raise UserError(
            f"{key}={folder} holds {len(variants)} variants ({'; '.join(variants)}), and an"
            f" ensemble is made of one; name that one, such as {one}"
        )
    alone = next((fit for fit in fold_runs if fit.fold is None), None)
    if alone is not None or not fold_runs:
        such = f", such as {alone.folder}" if alone else ""
        raise UserError(
            f"{key}={folder} holds runs that are no folds, so nothing tells the rule of all"
            f" together; name one of them{such}"
        )
    for seed in group_by_seed(fold_runs)[variants[0]]:
        for fold, why in seed.missing_reasons.items():
            fix = (
                f"make it again with fold={fold} seed={seed.seed} in the same folder, or name the"
                " runs of another sweep"
            )
            raise UserError(f"{key}={folder} lacks fold {fold} of seed {seed.seed} ({why}); {fix}")
    for name in MUST_MATCH:
        for fit in fold_runs:
            if _config_value(fit, name) != _config_value(fold_runs[0], name):
                raise UserError(
                    f"{fold_runs[0].folder} and {fit.folder} differ in {name}, so they cannot"
                    " answer together; name folds of one experiment"
                )


def _config_value(fold_run: FoldRun, key: str) -> Any:
    value: Any = fold_run.config
    for name in key.split("."):
        value = (value or {}).get(name)
    return value
