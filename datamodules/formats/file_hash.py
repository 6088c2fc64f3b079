"""SHA-256 of files. Imports nothing heavy."""

import hashlib
from functools import lru_cache
from pathlib import Path


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits.

    It is computed once while size and modification time stay what they are.

    Raises:
        OSError: The file cannot be read.
    """
    stat = path.stat()
    return _hash_file(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash_file(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
