"""The process that has imported everything, from which trials and what follows them are forked. Imports nothing heavy."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

REPOSITORY_ROOT = Path(__file__).parents[2]
_context: Any = None


def start_forkserver(preload: Sequence[str]) -> None:
    """Lets it import; there is one for all sweeps of this process. Where the system has none, every process imports for itself, and that is said.

    Args:
        preload: Modules; what is missing is imported where it is wanted.
    """
    global _context
    if _context is not None:
        return
    if "forkserver" not in multiprocessing.get_all_start_methods():
        print(
            "this system has no forkserver, so each trial imports for itself, which takes some ten"
            " seconds",
            file=sys.stderr,
        )
        _context = multiprocessing.get_context("spawn")
        return
    from multiprocessing import forkserver

    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(list(preload))
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(REPOSITORY_ROOT), *([known] if known else [])]
    )  # it imports from wherever it is started
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if known is None else os.environ.update(PYTHONPATH=known)


def new_process(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that is not yet started; `start_forkserver` has been called."""
    return _context.Process(target=target, args=arguments)


def run_in_subprocess(function: Callable[..., None], *arguments: Any) -> None:
    """Does some work in a process of its own where that spares an import, else here."""
    if _context is None or _context.get_start_method() != "forkserver":
        function(*arguments)
        return
    sys.stdout.flush()
    one = new_process(function, *arguments)
    one.start()
    one.join()
