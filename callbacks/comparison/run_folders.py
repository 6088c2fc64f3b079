"""Run folders below the folder of all runs, and stamps that tell whether they have changed."""

import os
from collections.abc import Iterator
from pathlib import Path

from lightning_modules.checkpoints import FOLD

CONFIG = "config.yaml"  # of a single run; not of folds or of a multirun together
LEFT = (CONFIG, "report.json")  # one of them at least is in a run folder
READ = (
    *LEFT,
    "outcome.json",
    "metrics.csv",
    "checkpoints/last.ckpt",
    "evidence/test.npz",
    "evidence/out_of_fold.npz",
)  # what is looked at

Stamp = list[list[int] | None]


def run_folders(runs: Path) -> list[Path]:
    """List all run folders, each once, whatever links to it.

    These are single runs, trials of multiruns, folds, and the merged pages of these.
    """
    return list(_below(runs, set()))


def _below(folder: Path, been: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield a folder if it is a run's, and the run folders below it.

    Below a single run only its folds are searched, for its other folders may hold many files.
    """
    try:
        place = folder.stat()
        with os.scandir(folder) as entries:
            there = {entry.name: entry for entry in entries}
    except OSError:  # removed meanwhile, or not ours to read
        return
    if (place.st_dev, place.st_ino) in been:
        return
    been.add((place.st_dev, place.st_ino))
    if any(name in there for name in LEFT):
        yield folder
    for name in sorted(
        name for name, entry in there.items() if not name.startswith(".") and _is_folder(entry)
    ):
        if CONFIG not in there or FOLD.fullmatch(name):
            yield from _below(folder / name, been)


def _is_folder(entry: os.DirEntry) -> bool:
    """Return whether it is a folder or a link to one; False where it cannot be looked up."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def stamp(folder: Path) -> Stamp:
    """Return time and size of each file in `READ`; None for one that is not there."""
    return [_stamp(folder / name) for name in READ]


def _stamp(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]
