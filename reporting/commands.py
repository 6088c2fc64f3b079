"""Write command lines that a user can paste, and short paths. Imports nothing heavy."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reporting.config_diff import SWEEP_OVERRIDE_PREFIXES
from reporting.file_io import read_yaml

if TYPE_CHECKING:
    from reporting.fold_runs import FoldRun

PLAIN = re.compile(r"[\w/.+:@%-]+", re.ASCII)  # what Hydra's grammar takes without quotes


def relative_to_cwd(path: Path) -> Path:
    """Return the path relative to the working folder, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def quote_override(key: str, path: Path) -> str:
    """Return `KEY=PATH`, quoted where Hydra's grammar would not read the path as that text.

    A shell needs the word quoted once more.

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


DROPPED_KEYS = ("do", "fold", "title", "ckpt_path")


def ensemble_test_command(fold_runs: "Sequence[FoldRun]", folder: Path) -> str:
    """What to type to test them together, in the words of the first fit.

    Args:
        fold_runs: All finished.
        folder: That holds them.
    """
    of_fit = fold_runs[0].folder / ".hydra" / "overrides.yaml"
    path = (
        of_fit if of_fit.is_file() else fold_runs[0].folder.parent / ".hydra" / "overrides.yaml"
    )  # of a run of folds
    said = read_yaml(path) if path.is_file() else []
    words = [
        word
        for word in said
        if _override_key(word) not in DROPPED_KEYS
        and not _override_key(word).startswith(SWEEP_OVERRIDE_PREFIXES)
    ]
    return shlex.join(
        [
            "python",
            "run.py",
            *words,
            "do=[test]",
            quote_override("ckpt_path", relative_to_cwd(folder)),
        ]
    )


def _override_key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0]
