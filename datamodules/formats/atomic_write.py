"""Atomic writing of files: a reader always finds the complete old or the complete new file."""

import os
from pathlib import Path


def atomic_write(path: Path, content: bytes) -> None:
    """Write a temporary file next to `path`, then rename it to `path`.

    Args:
        path: File to write.
        content: The complete content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
