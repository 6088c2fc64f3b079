"""Atomic and durable writing of files: a reader finds the complete old or the complete new file.

The new content is on the disk before it takes the old file's place, so that neither a killed
process nor a full disk damages what was there. Imports nothing heavy.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)
UNFINISHED = re.compile(r"\..+\.(\d+)")  # name of an unfinished file: .NAME.PROCESS


def atomic_write(path: Path, content: bytes) -> None:
    """Write a temporary file next to `path`, then rename it to `path`.

    Args:
        path: File to write.
        content: The complete content.
    """
    with open_atomic(path) as file:
        file.write(content)


@contextmanager
def open_atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file next to `path`, which is renamed to `path` at the end of the block.

    An error in the block removes the temporary file and leaves `path` as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk; file systems without that keep their own promises."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folder
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Args:
        folder: A folder that no other process writes to, such as that of a locked run.
    """
    own = str(os.getpid())
    for path in folder.glob(".*") if folder.is_dir() else ():
        found = UNFINISHED.fullmatch(path.name)
        if found and found[1] != own and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file; a file that `target` names stays until the copy is complete."""
    with source.open("rb") as file, open_atomic(target) as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
