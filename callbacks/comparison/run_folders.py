"""Run folders below the folder of all runs, and stamps that tell whether they have changed."""

import os
from collections.abc import Iterator
from pathlib import Path

from lightning_modules.checkpoints import FOLD_PATTERN

CONFIG_FILE = "config.yaml"  # of a single run; not of folds or of a multirun together
RUN_MARKERS = (CONFIG_FILE, "report.json")  # one of them at least is in a run folder
WATCHED_FILES = (
    *RUN_MARKERS,
    "outcome.json",
    "metrics.csv",
    "checkpoints/last.ckpt",
    "evidence/test.npz",
    "evidence/out_of_fold.npz",
)  # what is looked at

FileSignature = list[list[int] | None]


def find_run_folders(runs_dir: Path) -> list[Path]:
    """List all run folders, each once, whatever links to it.

    These are single runs, trials of multiruns, folds, and the merged pages of these.
    """
    return list(_iter_run_folders(runs_dir, set()))


def _iter_run_folders(folder: Path, visited: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield a folder if it is a run's, and the run folders below it.

    Below a single run only its folds are searched, for its other folders may hold many files.
    """
    try:
        place = folder.stat()
        with os.scandir(folder) as entries:
            there = {entry.name: entry for entry in entries}
    except OSError:  # removed meanwhile, or not ours to read
        return
    if (place.st_dev, place.st_ino) in visited:
        return
    visited.add((place.st_dev, place.st_ino))
    if any(name in there for name in RUN_MARKERS):
        yield folder
    for name in sorted(
        name for name, entry in there.items() if not name.startswith(".") and _is_folder(entry)
    ):
        if CONFIG_FILE not in there or FOLD_PATTERN.fullmatch(name):
            yield from _iter_run_folders(folder / name, visited)


def _is_folder(entry: os.DirEntry) -> bool:
    """Return whether it is a folder or a link to one; False where it cannot be looked up."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def file_signature(folder: Path) -> FileSignature:
    """Return time and size of each file in `READ`; None for one that is not there."""
    return [_file_state(folder / name) for name in WATCHED_FILES]


def _file_state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]
