"""Hydra callback that writes a multirun's table and page, and merges its folds and seeds.

This module imports nothing heavy, because Hydra loads it before every run.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, read_write

from datamodules.errors import UserError
from engine.hydra_files import keep_hydra_files
from engine.run_lock import (
    FolderInUse,
    claim_folder,
    describe_owner,
    is_in_use,
    lock_folder,
    unlock_folder,
)
from engine.sweeps.process_launcher import run_in_subprocess
from engine.umask import make_private
from lightning_modules.launch_environment import forget_foreign_ranks, rank
from reporting.commands import quote_override
from reporting.config_diff import REPLICATE_KEYS
from reporting.file_io import read_yaml
from reporting.outcome import OUTCOME_FILE, read_outcome_if_valid

MULTIRUN_END_STEPS = (  # module and function, which is called with the sweep's folder
    ("reporting.sweep_report", "write_trials_csv"),
    ("engine.sweeps.hydra_callback", "merge_folds_and_seeds"),
    (
        "reporting.sweep_report",
        "write_sweep_page",
    ),  # after the merge, because it links to its result
)


class SweepSummary(Callback):
    """Hydra callback that writes trials.csv and sweep.html, and reports failed trials.

    The exit code is 1 if a trial failed.

    Example:
        hydra: {callbacks: {trials: {_target_: engine.sweeps.hydra_callback.SweepSummary}}}
    """

    def __init__(self) -> None:
        self._outcome_times_before: dict[str, int] = {}
        self._locked: Path | None = None  # the run's folder

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim and lock the run folder, before Hydra creates it or writes into it.

        Only a folder that is named by the time is claimed.
        """
        forget_foreign_ranks(config)
        if rank() == 0:
            with _exit_on_user_error():
                folder = _claim_folder(config, "run")
                lock_folder(folder, _task_overrides(config))
                self._locked = folder
                keep_hydra_files(folder)
        elif config.private is True:
            make_private()

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Unlock the folder for other commands of this process, or of another."""
        if self._locked is not None:  # otherwise the run was refused
            unlock_folder(self._locked)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the sweep's folder, record the existing outcomes, and print warnings."""
        with _exit_on_user_error():
            _check_folds(config)
            folder = _claim_folder(config, "sweep")
            _check_no_running_sweep(folder, _task_overrides(config))
        if not any(word.startswith("hydra.sweep.dir=") for word in config.hydra.overrides.hydra):
            with read_write(
                config.hydra.overrides
            ):  # Hydra composes the configuration of each trial from it
                config.hydra.overrides.hydra.append(quote_override("hydra.sweep.dir", folder))
        if _splits_follow_seeds(config):
            print(SPLIT_WARNING, file=sys.stderr)
        self._outcome_times_before = _outcome_times(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the multirun's results and report failed trials; do nothing after an exception."""
        ending = sys.exc_info()[1]
        if isinstance(ending, Exception):
            return
        folder = Path(config.hydra.sweep.dir).absolute()
        run_in_subprocess(run_multirun_end_steps, folder)
        failed = {
            name: outcome.failure
            for name in self._newly_ended_trials(folder)
            if (outcome := read_outcome_if_valid(folder / name)) and outcome.status == "failed"
        }
        if failed:
            lines = [f"  {name}: {reason}" for name, reason in failed.items()]
            print(
                f"{len(failed)} trial{'s' * (len(failed) > 1)} failed, the others continued:",
                *lines,
                sep="\n",
                file=sys.stderr,
            )
            if ending is None:
                raise SystemExit(1)

    def _newly_ended_trials(self, folder: Path) -> list[str]:
        """Return the trials that ended in this command."""
        return [
            name
            for name, time in _outcome_times(folder).items()
            if self._outcome_times_before.get(name) != time
        ]


SPLIT_WARNING = (
    "each seed also makes a new split of the data (unless the data has one of its own), so the test"
    " sets may differ and are then not merged; datamodule.seed=0 keeps one split"
)


def _overridden(config: DictConfig) -> dict[str, str]:
    """Return key -> value of the sweep's overrides, as they were written."""
    words = (word.lstrip("+") for word in config.hydra.overrides.task)
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _check_folds(config: DictConfig) -> None:
    """Refuse a sweep over `fold` without a number of folds, before its first trial."""
    given = _overridden(config)
    swept = "," in given.get("experiment", "")
    if (
        "fold" in given and "folds" not in given and not config.folds and not swept
    ):  # otherwise each trial sets it
        raise UserError(f"fold={given['fold']} needs the number of folds; add folds=5")


def _splits_follow_seeds(config: DictConfig) -> bool:
    """Return True if seeds are swept, and each would split the data differently."""
    given = _overridden(config)
    seeds = given.get("seed", "")
    if "datamodule.seed" in given or not ("," in seeds or "(" in seeds):
        return False
    swept = any(
        "," in given.get(key, "") for key in ("experiment", "datamodule", "datamodule.split")
    )
    # a data set of the user's own is split again if its folders or table have no split
    own = str(config.datamodule.get("_target_", "")).endswith(".OwnDataModule")
    return swept or own or config.datamodule.split != "folders"


def _claim_folder(config: DictConfig, kind: str) -> Path:
    """Return the folder of a `run` or `sweep`; a folder named by the time is made unique.

    With `private=true` the folder, but not the folders above it, is for nobody else.
    """
    place = config.hydra[kind]
    written = str(OmegaConf.to_container(place, resolve=False)["dir"])  # type: ignore[index,call-overload]
    named = any(
        word.lstrip("+").startswith(f"hydra.{kind}.dir=") for word in config.hydra.overrides.hydra
    )
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(config)  # as Hydra does next, because the name contains the experiment
    folder = Path(place.dir)
    instance.cfg = before
    if config.private is True:
        folder.parent.mkdir(parents=True, exist_ok=True)
        make_private()
    if "${now:" in written and not named:
        folder = claim_folder(folder)
        with read_write(place):
            place.dir = str(folder)
    return folder


def _task_overrides(config: DictConfig) -> list[str]:
    return [str(word) for word in config.hydra.overrides.task]


def _check_no_running_sweep(folder: Path, overrides: list[str]) -> None:
    """Refuse a sweep in the folder of another one that is still running.

    Hydra would overwrite the configuration of its trials.

    Raises:
        FolderInUse: A trial of another sweep trains there.
    """
    try:
        earlier = (read_yaml(folder / "multirun.yaml") or {})["hydra"]["overrides"]["task"]
    except (UserError, KeyError, TypeError, ValueError, yaml.YAMLError):
        earlier = overrides
    without = [
        [word for word in words if not word.startswith("resume=")] for words in (earlier, overrides)
    ]
    for trial in sorted(folder.glob("*/")) if without[0] != without[1] else ():
        owner = is_in_use(trial)
        if owner is not None:
            message = f"trial {trial.name} of another sweep trains there ({describe_owner(owner)})"
            raise FolderInUse(
                f"hydra.sweep.dir={folder} is in use: {message}; wait until it has ended, or name"
                " another folder"
            )


@contextmanager
def _exit_on_user_error() -> Iterator[None]:
    """Exit on a user error, because Hydra turns exceptions of its callbacks into warnings."""
    try:
        yield
    except UserError as refusal:
        print(refusal, file=sys.stderr)
        raise SystemExit(refusal.exit_code) from refusal
    except OSError as error:
        print(
            f"{error.filename}, the folder of the run, cannot be created ({error.strerror}); name"
            " another one with hydra.run.dir or paths.runs",
            file=sys.stderr,
        )
        raise SystemExit(2) from error


def run_multirun_end_steps(folder: Path) -> None:
    """Run each end step; a step that fails does not prevent the others."""
    for module, name in MULTIRUN_END_STEPS:
        try:
            getattr(import_module(module), name)(folder)
        except Exception as error:
            print(
                f"{folder}: {module}.{name} failed: {type(error).__name__}: {error}",
                file=sys.stderr,
            )
    sys.stdout.flush()


def merge_folds_and_seeds(folder: Path) -> None:
    """Merge folds and seeds and update the leaderboard; nothing heavy is imported without any."""
    from reporting.trials import varied_overrides

    if set(REPLICATE_KEYS) & set(next(iter(varied_overrides(folder).values()), {})) or any(
        folder.glob("*/fold0")
    ):
        from reporting.cross_validation import merge_sweep_runs
        from reporting.leaderboard import update_leaderboard_after_multirun

        merge_sweep_runs(folder)
        update_leaderboard_after_multirun(folder)


def _outcome_times(folder: Path) -> dict[str, int]:
    """Return trial -> time of its outcome file, in the order of the trials' numbers."""
    found = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"*/{OUTCOME_FILE}")}
    return dict(sorted(found.items(), key=lambda item: item[0].zfill(9)))
