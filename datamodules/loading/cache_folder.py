"""Folder of all caches: locks, unfinished builds of processes that ended, and free space."""

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from datamodules.errors import UserError
from datamodules.formats.atomic_write import UNFINISHED

UNFINISHED_SUFFIX, LOCK_SUFFIX = ".tmp", ".lock"
QUIET_SECONDS = 3600  # after which nobody still writes an unfinished file of another machine
_CACHE_NAME = re.compile(r"images-[0-9a-f]+")


def unfinished_folder(place: Path) -> Path:
    """Return the folder in which this process builds a cache, or throws one away."""
    return place.with_name(f"{place.name}.{platform.node()}.{os.getpid()}{UNFINISHED_SUFFIX}")


@contextmanager
def build_lock(place: Path) -> Iterator[bool]:
    """Hold the lock of one cache; yield False where it cannot be had.

    The file system may have no locks, or be read-only. The lock's file is deleted at the end; a
    process that waits for it then takes a new one.
    """
    file = place.with_name(place.name + LOCK_SUFFIX)
    lock = FileLock(file)
    try:
        lock.acquire()
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            file.unlink()
        lock.release()


def discard(place: Path) -> None:
    """Delete a cache; processes that have it open continue reading it."""
    aside = unfinished_folder(place)
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink()


def sweep(folder: Path, held: Path | None = None) -> None:
    """Delete what ended processes left in the folder of all caches; nothing that is in use.

    An unfinished build is deleted if nobody holds its lock, and its process was one of this machine
    that has ended, or nothing was written to it for QUIET_SECONDS: locks of a shared disk may be
    unknown to other machines.

    Args:
        folder: The folder.
        held: Cache whose lock this process holds.
    """
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            found = _CACHE_NAME.match(path.name)
            if UNFINISHED.fullmatch(path.name) and path.is_file():
                if _is_quiet(path):
                    path.unlink(missing_ok=True)
            elif found and path.name.endswith((UNFINISHED_SUFFIX, LOCK_SUFFIX)):
                place = folder / found[0]
                if place == held:
                    _sweep_unfinished(path)
                else:
                    with suppress(OSError, Timeout), _free_lock(place):
                        _sweep_unfinished(path)


@contextmanager
def _free_lock(place: Path) -> Iterator[None]:
    """Hold a lock that nobody else holds, and delete its file.

    Raises:
        Timeout: Another process holds it.
    """
    file = place.with_name(place.name + LOCK_SUFFIX)
    with FileLock(file, timeout=0):
        yield
        file.unlink(missing_ok=True)


def _sweep_unfinished(path: Path) -> None:
    if path.name.endswith(UNFINISHED_SUFFIX) and (_has_ended(path) or _is_quiet(path)):
        shutil.rmtree(path, ignore_errors=True)


def _has_ended(path: Path) -> bool:
    """Return True if the process of an unfinished folder was one of this machine, and is gone."""
    writer = path.name.removesuffix(UNFINISHED_SUFFIX).partition(".")[2]
    host, _, process = writer.rpartition(".")
    if host != platform.node() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _is_quiet(path: Path) -> bool:
    """Return True if nothing was written to a file, or to a folder's files, for QUIET_SECONDS."""
    files = [path, *(path.iterdir() if path.is_dir() else ())]
    return max(file.stat().st_mtime for file in files) < time.time() - QUIET_SECONDS


def check_space(folder: Path, needed: int) -> None:
    """Refuse to build a cache that does not fit.

    Args:
        folder: Folder of all caches.
        needed: Bytes of the cache.

    Raises:
        UserError: There is not enough space; the message tells how much is needed.
    """
    free = shutil.disk_usage(folder).free
    if needed * 1.02 > free:
        raise no_space(folder, needed, free)


def no_space(folder: Path, needed: int, free: int | None = None) -> UserError:
    """Return the error of a cache that does not fit; `free` is None where it is not known."""
    has = "is full" if free is None else f"has {_amount(free)} free"
    return UserError(
        f"the disk of {folder} {has}, but the image cache needs {_amount(needed)}; free some, or"
        " set paths.cache to a larger disk"
    )


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
