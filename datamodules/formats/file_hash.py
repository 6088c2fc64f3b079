"""SHA-256 of files. Imports nothing heavy."""

import hashlib
from functools import lru_cache
from pathlib import Path

from datamodules.formats.file_stamp import FileStamp, file_stamp


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits.

    It is computed once while the stamp of the file stays what it is.

    Raises:
        OSError: The file cannot be read.
    """
    return _hash_file(path, file_stamp(path))


@lru_cache(maxsize=64)
def _hash_file(path: Path, stamp: FileStamp) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
