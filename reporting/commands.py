"""Write command lines that a user can paste, and short paths. Imports nothing heavy."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INSTALLED = Path(__file__).parents[1].name == "_packages"  # in a wheel, not in a clone
PROGRAM = ("medical-lightning",) if INSTALLED else ("python", "run.py")  # of the command line
PLAIN = re.compile(r"[\w/.+:@%-]+", re.ASCII)  # Hydra's grammar takes it without quotes


def relative_to_cwd(path: Path) -> Path:
    """Return the path relative to the working folder, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def quote_override(key: str, path: Path) -> str:
    """Return `KEY=PATH`, with quotes where Hydra's grammar would read the path differently.

    A shell needs further quotes around the result.

    Args:
        key: Dotted key.
        path: Path of a file or folder.
    """
    if PLAIN.fullmatch(str(path)) and not is_typed(str(path)):
        return f"{key}={path}"
    from hydra.core.override_parser.types import Quote, QuotedString

    return f"{key}={QuotedString(str(path), Quote.double).with_quotes()}"


def is_typed(value: str) -> bool:
    """Return whether Hydra reads a value as a number, a boolean or null instead of text."""
    if value.lower() in ("null", "true", "false"):
        return True
    try:
        float(value)
    except ValueError:
        return False
    return True


def to_override(key: str, value: Any) -> str:
    """Return `KEY=value` of a sampled value, quoted where Hydra's grammar would misread it.

    Lists and mappings come as text already.
    """
    plain = f"{key}={value}"
    if not isinstance(value, str):
        return (
            plain
            if value is not None and not isinstance(value, bool)
            else f"{key}={quote_value(value)}"
        )
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        read = OverridesParser.create().parse_override(plain).value()
    except HydraException:
        read = None
    return (
        plain if read == value or isinstance(read, list | dict) else f"{key}={quote_value(value)}"
    )


def quote_value(value: Any) -> str:
    """Quote a value so that Hydra's grammar reads it back; interpolations stay as they are."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{quote_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(quote_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str) and not (value.startswith("${") and value.endswith("}")):
        from hydra.core.override_parser.types import Quote, QuotedString

        return QuotedString(value, Quote.single).with_quotes()
    return str(value)


def ensemble_test_command(folder: Path) -> str:
    """Return the command that tests the networks of all folds in a folder together.

    It needs no other word, because the overrides of the folds are read from the folder.
    """
    return shlex.join([*PROGRAM, "do=[test]", quote_override("ckpt_path", relative_to_cwd(folder))])
