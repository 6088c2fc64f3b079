"""The networks of all folds, and of all seeds, as one: what a folder of several fits means where one checkpoint is asked for."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from callbacks.runs.quoting import from_here, path_word
from callbacks.runs.written import read_yaml
from callbacks.sweeps.folds import Fit, fit_folders, fits_of
from callbacks.sweeps.out_of_fold import by_seed, out_of_fold, pooled
from callbacks.sweeps.words import OF_THE_SWEEP
from datamodules.refusal import Refusal
from lightning_modules import checkpoints
from lightning_modules.evidence import Evidence

NOT_OF_A_TEST = ("do", "fold", "title", "ckpt_path")
ALIKE = (
    "image_size",
    "module.classes",
    "module.net",
    "module.mean",
    "module.std",
    "module.scratch_normalization",
    "module.gamma",
)


@dataclass(frozen=True)
class Ensemble:
    """Fits whose networks answer together.

    Attributes:
        folder: That was named.
        key: By which the user named it.
        fits: Every fold of every seed.
    """

    folder: Path
    key: str
    fits: list[Fit]

    @property
    def checkpoints(self) -> list[Path]:
        """The best of each."""
        return [checkpoints.find(str(fit.folder), "best") for fit in self.fits]

    @property
    def evidence(self) -> Evidence:
        """What single networks said of the images that they had not seen, each image once a seed."""
        seeds = dict.fromkeys(fit.seed for fit in self.fits)
        return pooled(
            [out_of_fold([fit for fit in self.fits if fit.seed == seed]) for seed in seeds]
        )

    def refuse_trained_on(self, ids: Sequence[str], root: Path) -> None:
        """Refuses to test on what a member was trained on.

        Args:
            ids: Of the test images.
            root: Of their data set; the same names in another one are other images.
        """
        learned = {
            id
            for fit in self.fits
            if self._root(fit) == root.expanduser().resolve()
            for id in fit.evidence["val"].ids.tolist()
        }
        seen = sorted(learned & set(ids))
        if seen:
            mend = (
                "test on the split that the folds were cut from, with the datamodule.seed and"
                " datamodule.split of their runs"
            )
            raise Refusal(
                f"{self.key}={self.folder}: its networks were trained on {len(seen)} of the test"
                f" images, such as '{seen[0]}'; {mend}"
            )

    @staticmethod
    def _root(fit: Fit) -> Path:
        return Path(str(fit.config.get("datamodule", {}).get("root"))).expanduser().resolve()


def named_together(cfg: DictConfig) -> str | None:
    """The key that names several fits where one network is asked for: `ckpt_path`, else `init_from`; None for a fit, which starts from one."""
    key = "ckpt_path" if cfg.ckpt_path else "init_from"
    return (
        key
        if "fit" not in cfg.do and cfg[key] and fit_folders(Path(str(cfg[key])).expanduser())
        else None
    )


def ensemble_of(cfg: DictConfig) -> Ensemble | None:
    """The fits that a key names together; None where it names one network.

    Raises:
        Refusal: they cannot answer together.
    """
    key = named_together(cfg)
    if key is None:
        return None
    folder = Path(str(cfg[key])).expanduser()
    fits = fits_of(folder)
    _refuse(fits, folder, key)
    if cfg.average > 1:
        raise Refusal(
            f"average={cfg.average} takes several checkpoints of one run, and {key}={folder} is"
            f" {len(fits)} runs; take average=1"
        )
    return Ensemble(folder, key, fits)


def _refuse(fits: Sequence[Fit], folder: Path, key: str) -> None:
    arms = list(dict.fromkeys(fit.arm for fit in fits))
    if len(arms) > 1:
        one = folder / "merged" / "arm0"
        raise Refusal(
            f"{key}={folder} holds {len(arms)} arms ({'; '.join(arms)}), and an ensemble is of one;"
            f" name it, such as {one}"
        )
    alone = next((fit for fit in fits if fit.fold is None), None)
    if alone is not None or not fits:
        such = f", such as {alone.folder}" if alone else ""
        raise Refusal(
            f"{key}={folder} holds runs that are no folds, so nothing tells the rule of all"
            f" together; name one of them{such}"
        )
    for seed in by_seed(fits)[arms[0]]:
        for fold, why in seed.lacking.items():
            mend = (
                f"make it again with fold={fold} seed={seed.seed} in the same folder, or name the"
                " runs of another sweep"
            )
            raise Refusal(f"{key}={folder} lacks fold {fold} of seed {seed.seed} ({why}); {mend}")
    for name in ALIKE:
        for fit in fits:
            if _value(fit, name) != _value(fits[0], name):
                raise Refusal(
                    f"{fits[0].folder} and {fit.folder} differ in {name}, so they cannot answer"
                    " together; name folds of one experiment"
                )


def _value(fit: Fit, key: str) -> Any:
    value: Any = fit.config
    for name in key.split("."):
        value = (value or {}).get(name)
    return value


def command(fits: Sequence[Fit], folder: Path) -> str:
    """What to type to test them together, in the words of the first fit.

    Args:
        fits: All finished.
        folder: That holds them.
    """
    of_fit = fits[0].folder / ".hydra" / "overrides.yaml"
    path = (
        of_fit if of_fit.is_file() else fits[0].folder.parent / ".hydra" / "overrides.yaml"
    )  # of a run of folds
    said = read_yaml(path) if path.is_file() else []
    words = [
        word
        for word in said
        if _key(word) not in NOT_OF_A_TEST and not _key(word).startswith(OF_THE_SWEEP)
    ]
    return shlex.join(
        ["python", "run.py", *words, "do=[test]", path_word("ckpt_path", from_here(folder))]
    )


def _key(word: str) -> str:
    return word.lstrip("+~").split("=", 1)[0]
