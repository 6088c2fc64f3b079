"""Atomic writing: a reader finds the file whole at any moment, as it was before or as it is now."""

import os
from pathlib import Path


def atomic_write(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path`, then put it in its place.

    Args:
        path: The file.
        content: All of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
