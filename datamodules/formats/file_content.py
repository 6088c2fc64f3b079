"""Reader of whole files of others: regular ones of a limited size, and JSON that is shallow.

A pipe would hang its reader, a device never ends, and a file of gigabytes fills the memory before
anything of it is checked; so each path is looked at before it is opened.
"""

import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from datamodules.errors import MAX_FILE_BYTES, ManifestError

RESTORE = "restore the file or take it out of the data set"
BYTES_PER_VALUE = 32  # a file's limit in bytes over this is the most values that its JSON may hold
MAX_REASON = 200  # characters of a reason that a message quotes


def check_file(path: Path, max_bytes: int | None = None, fix: str = RESTORE) -> int:
    """Return the size of a regular file in bytes.

    Args:
        path: The file; links are followed.
        max_bytes: Largest size that is read, if it is that of `datamodule.max_file_bytes`; None
            for MAX_FILE_BYTES, which no key raises.
        fix: End of the message.

    Raises:
        ManifestError: It is missing, a folder, a pipe, a socket or a device, or larger.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise ManifestError(f"{path} does not exist; {fix}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"{shorten(str(path))} cannot be read ({reason}); {fix}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ManifestError(f"{path} is a folder, and a file is expected; {fix}")
    if not stat.S_ISREG(status.st_mode):
        raise ManifestError(f"{path} is a pipe, a socket or a device, and no file; {fix}")
    limit = MAX_FILE_BYTES if max_bytes is None else max_bytes
    if status.st_size > limit:
        change = (
            fix
            if max_bytes is None
            else f"replace it, or set datamodule.max_file_bytes={status.st_size} to read it"
        )
        raise ManifestError(
            f"{path} has {status.st_size:,} bytes, above the limit of {limit:,}; {change}"
        )
    return status.st_size


def read_bytes(path: Path, max_bytes: int | None = None, fix: str = RESTORE) -> bytes:
    """Read a whole file.

    Args:
        path: The file.
        max_bytes: See `check_file`.
        fix: End of the message.

    Raises:
        ManifestError: See `check_file`; or the system cannot read it.
    """
    check_file(path, max_bytes, fix)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); {fix}") from error


def read_text(path: Path, max_bytes: int | None = None, fix: str = "export it again") -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Args:
        path: The file.
        max_bytes: See `check_file`.
        fix: End of the message.

    Raises:
        ManifestError: See `read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(path, max_bytes, fix).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not a text file in UTF-8 ({error}); {fix}") from error


def read_json(
    path: Path, max_bytes: int | None = None, fix: str = "export the data set again"
) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        max_bytes: See `check_file`.
        fix: End of the message.

    Raises:
        ManifestError: See `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, max_bytes, fix), str(path), max_bytes, fix)


def parse_json(
    text: str,
    where: str,
    max_bytes: int | None = None,
    fix: str = "export the data set again",
) -> Any:
    """Parse JSON; a key that an object has twice is refused, because only one value would count.

    Args:
        text: The JSON.
        where: File, for messages.
        max_bytes: Limit of the file, from which that of the number of values follows; see
            `check_file`.
        fix: End of the message.

    Raises:
        ManifestError: It is no JSON, nested too deeply, holds too many values, or a key twice.
    """
    values, limit = text.count(","), (max_bytes or MAX_FILE_BYTES) // BYTES_PER_VALUE
    if values > limit:
        change = (
            fix
            if max_bytes is None
            else "replace it (write masks as compressed RLE, and no lists of run lengths), or set"
            f" datamodule.max_file_bytes={values * BYTES_PER_VALUE} to read it"
        )
        raise ManifestError(
            f"{where} holds {values:,} values, above the limit of {limit:,}; {change}"
        )
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs)
    except _RepeatedKeyError as error:
        raise ManifestError(
            f"{where} has the key '{shorten(str(error))}' twice in one object; keep one of them"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ManifestError(f"{where} is not valid JSON ({reason}); {fix}") from error


def shorten(text: str, length: int = MAX_REASON) -> str:
    """Return a text that fits into a message, on one line."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text[: length + 1])
    return plain if len(plain) <= length else f"{plain[: length - 3]}..."


def plain_sentence(error: Exception) -> str:
    """Return an error in one line of moderate length."""
    return shorten(" ".join(str(error).split()) or type(error).__name__)


class _RepeatedKeyError(Exception):
    """Error for a key that an object has twice; its message is the key."""


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return found
