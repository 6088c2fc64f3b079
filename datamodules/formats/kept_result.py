"""Results that are kept in a cache for the next run, and are computed again where they are damaged.

A file holds the CRC-32 of its content in the first line, and then the content as JSON. It is only
ever an optimization: what is missing, damaged or cannot be written costs time and nothing else.
"""

import json
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.file_errors import file_error
from datamodules.formats.atomic_write import atomic_write

SUFFIX = ".kept"
_DIGITS = 8  # of the checksum, in hexadecimal


def load_result(path: Path) -> Any:
    """Return the value that `store_result` kept; None if it is missing, damaged or unreadable."""
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    head, _, content = data.partition(b"\n")
    if head != _checksum(content):
        return None
    return json.loads(content)


def store_result(path: Path, value: Any) -> None:
    """Keep a JSON value for the next run.

    Nothing is written, and nothing is said, where the folder is missing (a cache that was deleted
    meanwhile), full or not writable.
    """
    if path.parent.is_dir():
        with suppress(OSError):
            write_result(path, value)


def write_result(path: Path, value: Any) -> None:
    """Write what `load_result` reads.

    Raises:
        OSError: It cannot be written.
    """
    content = json.dumps(value).encode()
    atomic_write(path, _checksum(content) + b"\n" + content)


def _checksum(content: bytes) -> bytes:
    return f"{zlib.crc32(content):0{_DIGITS}x}".encode()


def make_folder(folder: Path) -> None:
    """Make the folder of all caches, private to the user (mode 0700).

    Raises:
        UserError: It cannot be made; the message names paths.cache.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise cache_folder_error(error, folder) or error from error


def cache_folder_error(error: OSError, folder: Path) -> UserError | None:
    """Return the sentence for an error of the folder of all caches; None if there is none."""
    return file_error(error, folder, "set paths.cache to a folder that can be used")
