"""Finished runs that several tests share, made by run.py in this process."""

import gc
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import run


def finish_run(words: Sequence[str], folder: Path) -> Path:
    """Call run.py with words, its cache beside the run folder; return the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDICAL_CACHE", str(folder.parent / "cache"))
        patch.setattr(sys, "argv", ["run.py", *words, f"hydra.run.dir={folder}"])
        run.main()
    gc.collect()  # a trainer and its network refer to each other
    return folder
