"""The command that tests networks together."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from callbacks.runs.quoting import quote_override, relative_to_cwd
from callbacks.runs.written import read_yaml
from callbacks.sweeps.folds import FoldRun
from callbacks.sweeps.words import SWEEP_OVERRIDE_PREFIXES

DROPPED_KEYS = ("do", "fold", "title", "ckpt_path")


def ensemble_test_command(fold_runs: Sequence[FoldRun], folder: Path) -> str:
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
