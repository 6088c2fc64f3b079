"""Paths in what is printed, and as words of a command line that Hydra reads back as they were meant. Imports nothing heavy."""

import re
from pathlib import Path

PLAIN = re.compile(r"[\w/.+:@%-]+", re.ASCII)  # what its grammar takes without quotes


def from_here(path: Path) -> Path:
    """As short as it is from the folder of the command."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def path_word(key: str, path: Path) -> str:
    """`KEY=PATH`, with the path in quotes where it holds what Hydra's grammar reads otherwise; a shell has to quote the word once more.

    Args:
        key: Dotted.
        path: Of a file or folder.
    """
    if PLAIN.fullmatch(str(path)):
        return f"{key}={path}"
    from hydra.core.override_parser.types import Quote, QuotedString

    return f"{key}={QuotedString(str(path), Quote.double).with_quotes()}"
