"""The networks of all folds, and of all seeds, as one: what a folder of several fits means where one checkpoint is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from callbacks.sweeps.folds import FoldRun, find_fold_run_folders, load_fold_runs
from callbacks.sweeps.out_of_fold import group_by_seed, merge_out_of_fold, stack_seeds
from datamodules.refusal import UserError
from lightning_modules import checkpoints
from lightning_modules.evidence import Evidence

MUST_MATCH = (
    "image_size",
    "module.classes",
    "module.net",
    "module.mean",
    "module.std",
    "module.scratch_normalization",
    "module.gamma",
)


@dataclass(frozen=True)
class FoldEnsemble:
    """Fits whose networks answer together.

    Attributes:
        folder: That was named.
        key: By which the user named it.
        members: Every fold of every seed.
    """

    folder: Path
    key: str
    members: list[FoldRun]

    @property
    def checkpoints(self) -> list[Path]:
        """The best of each."""
        return [checkpoints.find_checkpoint(str(fit.folder), "best") for fit in self.members]

    @property
    def evidence(self) -> Evidence:
        """What single networks said of the images that they had not seen, each image once a seed."""
        seeds = dict.fromkeys(fit.seed for fit in self.members)
        return stack_seeds(
            [merge_out_of_fold([fit for fit in self.members if fit.seed == seed]) for seed in seeds]
        )

    def check_not_trained_on(self, ids: Sequence[str], root: Path) -> None:
        """Refuses to test on what a member was trained on.

        Args:
            ids: Of the test images.
            root: Of their data set; the same names in another one are other images.
        """
        learned = {
            id
            for fit in self.members
            if self._data_root(fit) == root.expanduser().resolve()
            for id in fit.evidence["val"].ids.tolist()
        }
        seen = sorted(learned & set(ids))
        if seen:
            mend = (
                "test on the split that the folds were cut from, with the datamodule.seed and"
                " datamodule.split of their runs"
            )
            raise UserError(
                f"{self.key}={self.folder}: its networks were trained on {len(seen)} of the test"
                f" images, such as '{seen[0]}'; {mend}"
            )

    @staticmethod
    def _data_root(fold_run: FoldRun) -> Path:
        return Path(str(fold_run.config.get("datamodule", {}).get("root"))).expanduser().resolve()


def ensemble_key(cfg: DictConfig) -> str | None:
    """The key that names several fits where one network is asked for: `ckpt_path`, else `init_from`; None for a fit, which starts from one."""
    key = "ckpt_path" if cfg.ckpt_path else "init_from"
    return (
        key
        if "fit" not in cfg.do
        and cfg[key]
        and find_fold_run_folders(Path(str(cfg[key])).expanduser())
        else None
    )


def load_ensemble(cfg: DictConfig) -> FoldEnsemble | None:
    """The fits that a key names together; None where it names one network.

    Raises:
        Refusal: they cannot answer together.
    """
    key = ensemble_key(cfg)
    if key is None:
        return None
    folder = Path(str(cfg[key])).expanduser()
    fits = load_fold_runs(folder)
    _check_members(fits, folder, key)
    if cfg.average > 1:
        raise UserError(
            f"average={cfg.average} takes several checkpoints of one run, and {key}={folder} is"
            f" {len(fits)} runs; take average=1"
        )
    return FoldEnsemble(folder, key, fits)


def _check_members(fold_runs: Sequence[FoldRun], folder: Path, key: str) -> None:
    arms = list(dict.fromkeys(fit.variant for fit in fold_runs))
    if len(arms) > 1:
        one = folder / "merged" / "arm0"
        raise UserError(
            f"{key}={folder} holds {len(arms)} arms ({'; '.join(arms)}), and an ensemble is of one;"
            f" name it, such as {one}"
        )
    alone = next((fit for fit in fold_runs if fit.fold is None), None)
    if alone is not None or not fold_runs:
        such = f", such as {alone.folder}" if alone else ""
        raise UserError(
            f"{key}={folder} holds runs that are no folds, so nothing tells the rule of all"
            f" together; name one of them{such}"
        )
    for seed in group_by_seed(fold_runs)[arms[0]]:
        for fold, why in seed.missing_reasons.items():
            mend = (
                f"make it again with fold={fold} seed={seed.seed} in the same folder, or name the"
                " runs of another sweep"
            )
            raise UserError(f"{key}={folder} lacks fold {fold} of seed {seed.seed} ({why}); {mend}")
    for name in MUST_MATCH:
        for fit in fold_runs:
            if _config_value(fit, name) != _config_value(fold_runs[0], name):
                raise UserError(
                    f"{fold_runs[0].folder} and {fit.folder} differ in {name}, so they cannot answer"
                    " together; name folds of one experiment"
                )


def _config_value(fold_run: FoldRun, key: str) -> Any:
    value: Any = fold_run.config
    for name in key.split("."):
        value = (value or {}).get(name)
    return value
