"""Writes paths for printing, and as overrides that Hydra reads back.

Imports nothing heavy.
"""

import re
from pathlib import Path

PLAIN = re.compile(r"[\w/.+:@%-]+", re.ASCII)  # what Hydra's grammar takes without quotes


def relative_to_cwd(path: Path) -> Path:
    """Return the path relative to the working folder, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def quote_override(key: str, path: Path) -> str:
    """Return `KEY=PATH`, with the path quoted where Hydra's grammar requires it.

    A shell needs the word quoted once more.

    Args:
        key: Dotted key.
        path: Path of a file or folder.
    """
    if PLAIN.fullmatch(str(path)):
        return f"{key}={path}"
    from hydra.core.override_parser.types import Quote, QuotedString

    return f"{key}={QuotedString(str(path), Quote.double).with_quotes()}"
