"""Unique run folders, and their locks while a run trains.

This module imports nothing heavy.

Folders that are named by the time are claimed, so that two commands in the same second get two
folders. A folder that the user named may be shared, by a resumed or requeued run and by a test of
its own run, but never by two runs at the same time.
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
FOLDER_IN_USE = 3  # exit code of a trial whose folder is used by another run

# locks of this process: folder -> its lock, and if another run had to be waited for
_held: dict[Path, tuple[FileLock, bool]] = {}


class FolderInUse(UserError):
    """Error if another run trains in the folder."""


def claim_folder(wanted: Path) -> Path:
    """Create a new folder; if it exists, `-2`, `-3`, ... is appended to its name.

    Args:
        wanted: Folder that is named by the time.

    Returns:
        The folder that was created.
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
    """Return the name of a run by the time, in the format of `${now:...}` in run.yaml."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def lock_folder(folder: Path, overrides: Sequence[str], wait_for_own: bool = False) -> bool:
    """Lock a run folder until this process ends or calls `unlock_folder`.

    The lock belongs to the operating system, so no crash leaves it behind.

    Args:
        folder: The folder, which is created if it is missing.
        overrides: Overrides of the run; another run with the same overrides is the same trial of a
            sweep that was killed.
        wait_for_own: True to wait for such a run; any other run is refused.

    Returns:
        True if another run had to be waited for.

    Raises:
        FolderInUse: Another run holds the folder; the message names its process.
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
                # it may have just taken the lock, and not have written its owner yet
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
        ):  # a file system without locks cannot be protected
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
    """Hold a run folder's lock within the context; a lock that was held before stays held.

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
    """Return process, host, start and overrides of another run that uses a folder, else None."""
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
    """Return a unique path of a folder's lock, with `..` and links resolved."""
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
