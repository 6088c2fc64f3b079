"""What a multirun leaves: its table, its page, what folds and seeds say together. Imports nothing heavy, because Hydra loads it before every run."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from callbacks.runs import outcome
from callbacks.runs.swept_folds import seeds_word
from callbacks.sweeps.forked import apart
from callbacks.sweeps.words import DRAWN, swept

ENDINGS = (  # module and function; each is given the sweep's folder
    ("callbacks.sweeps.table", "write"),
    ("callbacks.sweeps.trials", "merge"),
    ("callbacks.sweeps.page", "write"),  # links to what was merged
)


class Trials(Callback):
    """After a multirun writes trials.csv and sweep.html into its folder, and says which trials failed; then the exit code is 1.

    Example:
        hydra: {callbacks: {trials: {_target_: callbacks.sweeps.trials.Trials}}}
    """

    def __init__(self) -> None:
        self._before: dict[str, int] = {}

    def on_multirun_start(self, config: DictConfig, **more: Any) -> None:
        """Notes what an earlier command left in the same folder, and says what is better known before the first trial than after the last."""
        said = seeds_word(config.hydra.overrides.task, config.datamodule.split)
        if said:
            print(said, file=sys.stderr)
        self._before = _written(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **more: Any) -> None:
        """Nothing after a mistake of the user, which is told instead."""
        ending = sys.exc_info()[1]
        if isinstance(ending, Exception):
            return
        folder = Path(config.hydra.sweep.dir).absolute()
        apart(finish, folder)
        failed = {name: said["failure"] for name in self._new(folder) if (said := outcome.read(folder / name)) and said["status"] == "failed"}
        if failed:
            lines = [f"  {name}: {told}" for name, told in failed.items()]
            print(f"{len(failed)} trial{'s' * (len(failed) > 1)} failed, the others went on:", *lines, sep="\n", file=sys.stderr)
            if ending is None:
                raise SystemExit(1)

    def _new(self, folder: Path) -> list[str]:
        """Trials that ended in this command."""
        return [name for name, time in _written(folder).items() if self._before.get(name) != time]


def finish(folder: Path) -> None:
    """Carries out each ending; one that cannot does not keep the others from it."""
    for module, name in ENDINGS:
        try:
            getattr(import_module(module), name)(folder)
        except Exception as error:
            print(f"{folder}: {module}.{name} could not be carried out: {type(error).__name__}: {error}", file=sys.stderr)
    sys.stdout.flush()


def merge(folder: Path) -> None:
    """What folds and seeds say together; nothing heavy is imported where there are none."""
    if set(DRAWN) & set(next(iter(swept(folder).values()), {})) or any(folder.glob("*/fold0")):
        from callbacks.comparison.publish import after_multirun
        from callbacks.sweeps.merged import merge_sweep

        merge_sweep(folder)
        after_multirun(folder)


def _written(folder: Path) -> dict[str, int]:
    """Trial -> when its outcome was written, in the order of their numbers."""
    found = {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"*/{outcome.NAME}")}
    return dict(sorted(found.items(), key=lambda item: item[0].zfill(9)))
