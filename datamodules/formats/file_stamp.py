"""Stamps of files, by which a change is noticed without reading them. Imports nothing heavy."""

import glob
import os
import re
from pathlib import Path
from typing import NamedTuple

DETACHED_HEADERS = (".mhd", ".nhdr")  # the values of these volumes lie in other files
MAX_HEADER_BYTES = 2**20
_DATA_FILE = re.compile(r"^\s*(?:ElementDataFile\s*=|data ?file:)\s*(.*?)\s*$", re.IGNORECASE)


class FileStamp(NamedTuple):
    """What the file system tells about a file.

    Attributes:
        size: Length in bytes.
        modified: Time of the last change of the content in ns; copies and `touch` may set it.
        changed: Time of the last change of content or properties in ns; nobody can set it.
        number: Number of the file (inode), which another file in its place does not have, or has
            with another `changed`.
    """

    size: int
    modified: int
    changed: int
    number: int


def file_stamp(path: str | Path) -> FileStamp:
    """Return the stamp of a file.

    A file that is replaced always has another stamp, with equal size and time too. The opposite
    does not hold: a new owner, permission or hard link changes `changed`, and other mounts may
    renumber files.

    Raises:
        OSError: There is no such file.
    """
    status = os.stat(path)  # noqa: PTH116 - a Path takes longer than the call
    return FileStamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def value_files(header: Path) -> list[Path]:
    """Return the files that hold the values of a volume with a detached header; none for others.

    They are those that the header names, and those with its stem beside it, sorted.

    Raises:
        OSError: The header cannot be read.
    """
    if header.suffix.lower() not in DETACHED_HEADERS:
        return []
    found = set(header.parent.glob(f"{glob.escape(header.stem)}.*")) - {header}
    with header.open("rb") as file:
        lines = file.read(MAX_HEADER_BYTES).decode("utf-8", "replace").splitlines()
    names = list(filter(None, map(_DATA_FILE.match, lines)))
    if names:
        first, following = names[0][1], lines[lines.index(names[0].string) + 1 :]
        listed = following if first.upper().startswith("LIST") else [first]
        for name in filter(None, map(str.strip, listed)):
            pattern = re.sub(r"%0?\d*d", "*", glob.escape(name.split("%")[0]) + _tail(name))
            found |= set(header.parent.glob(pattern)) if not name.startswith("/") else {Path(name)}
    return sorted(path for path in found if path.is_file() and path != header)


def _tail(name: str) -> str:
    """Return the pattern of numbered files, `%03d.raw` of `slice%03d.raw 1 9 1`; empty for one."""
    return "" if "%" not in name else "%" + name.split("%", 1)[1].split()[0]
