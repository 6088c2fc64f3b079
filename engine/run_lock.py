"""Claims run folders under names of their own, and locks them while a run trains.

Imports nothing heavy.

Names that come from the clock are claimed: two commands in the same second get two folders. A
folder that the user named is shared on purpose, by a resumed or requeued run and by a test into its
own run, but never by two runs at the same time.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.errors import UserError

LOCK_FILE = ".run.lock"
OWNER_FILE = ".run.json"
FOLDER_IN_USE = 3  # exit code of a trial whose folder belongs to another run

# of this process: folder -> its lock, and whether another run had to be waited for
_held: dict[Path, tuple[FileLock, bool]] = {}


class FolderInUse(UserError):
    """Another run trains in the folder."""


def claim_folder(wanted: Path) -> Path:
    """Make a new folder; if the name is taken, `-2`, `-3`, ... is appended.

    Args:
        wanted: A name that comes from the clock.

    Returns:
        The folder that was made.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def claim_time() -> str:
    """Return the clock's name of a run, as Hydra's `${now:...}` in run.yaml writes it."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def lock_folder(folder: Path, overrides: Sequence[str], wait_for_own: bool = False) -> bool:
    """Lock a run folder until this process ends or calls `unlock_folder`.

    The lock belongs to the operating system, so no crash leaves it behind.

    Args:
        folder: The folder, made if it is missing.
        overrides: Overrides of the run; another run with the same ones is this very trial, left
            over from a sweep that was killed.
        wait_for_own: True to wait for such a run; any other run is refused.

    Returns:
        Whether another run had to be waited for.

    Raises:
        FolderInUse: Another run holds the folder; the sentence names its process.
    """
    folder = _lock_path(folder)
    if folder in _held:
        return _held[folder][1]
    folder.mkdir(parents=True, exist_ok=True)
    held, waited = FileLock(folder / LOCK_FILE, thread_local=False), False
    while True:
        try:
            held.acquire(timeout=0)
            break
        except Timeout:
            owner = _read_owner(folder)
            if wait_for_own and not waited and owner.get("overrides") != list(overrides):
                # it may have taken the lock a moment ago, and not have written whose it is
                time.sleep(1)
                owner = _read_owner(folder)
            if not (wait_for_own and owner.get("overrides") == list(overrides)):
                raise FolderInUse(_describe_owner(folder, owner)) from None
            if not waited:
                print(
                    f"{folder}: waits for the same trial of an earlier command"
                    f" ({describe_owner(owner)})",
                    file=sys.stderr,
                    flush=True,
                )
            waited = True
            time.sleep(0.5)
        except (
            NotImplementedError,
            OSError,
        ):  # a file system without locks: nothing can be promised there
            break
    _held[folder] = held, waited
    owner = {
        "process": os.getpid(),
        "host": platform.node(),
        "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        "overrides": list(overrides),
    }
    (folder / OWNER_FILE).write_text(json.dumps(owner), encoding="utf-8")
    return waited


@contextmanager
def folder_lock(folder: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Hold a run folder's lock for some work; if held before, it is held afterwards too.

    Raises:
        FolderInUse: See `lock_folder`.
    """
    before = _lock_path(folder) in _held
    lock_folder(folder, overrides)
    try:
        yield
    finally:
        if not before:
            unlock_folder(folder)


def unlock_folder(folder: Path) -> None:
    """Release a run folder's lock; do nothing if this process does not hold it."""
    found = _held.pop(_lock_path(folder), None)
    if found is not None:
        (folder / OWNER_FILE).unlink(missing_ok=True)
        found[0].release(force=True)


def is_in_use(folder: Path) -> dict[str, Any] | None:
    """Return process, host, start and overrides of another run that holds a folder, else None."""
    if _lock_path(folder) in _held or not (folder / LOCK_FILE).is_file():
        return None
    probe = FileLock(folder / LOCK_FILE, thread_local=False)
    try:
        probe.acquire(timeout=0)
    except Timeout:
        return _read_owner(folder)
    except (NotImplementedError, OSError):
        return None
    probe.release()
    return None


def _lock_path(folder: Path) -> Path:
    """Return one name for a folder: `..` and links would make two of it."""
    return Path(os.path.realpath(folder))


def _read_owner(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / OWNER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _describe_owner(folder: Path, owner: dict[str, Any]) -> str:
    return (
        f"hydra.run.dir={folder} is in use by another run ({describe_owner(owner)}); wait until it"
        " has ended, or name another folder"
    )


def describe_owner(owner: dict[str, Any]) -> str:
    """Describe the process that holds a folder."""
    return (
        f"process {owner.get('process', '?')} on {owner.get('host', '?')}, since"
        f" {owner.get('since', '?')}"
    )
