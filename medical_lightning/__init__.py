"""The public names under one import name: `from medical_lightning import Predictor, run`.

A wheel puts only this package into site-packages; `callbacks`, `conf`, `datamodules` and the other
folders of the repository lie inside it, in `_packages`, because their names are too common for
site-packages. Importing this package puts that folder (in a clone: the clone) first on the search
path of this process and of the processes that it starts. Nothing heavy is imported before a name is
used.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deployment.predictor import Predictor
    from engine.tasks import run
    from reporting.run_folder import RunFolder

__all__ = ["Predictor", "RunFolder", "main", "run"]

_BUNDLED = Path(__file__).resolve().parent / "_packages"
_ROOT = _BUNDLED if _BUNDLED.is_dir() else _BUNDLED.parents[1]
_PACKAGES = (
    "callbacks",
    "datamodules",
    "deployment",
    "engine",
    "evaluation",
    "lightning_modules",
    "reporting",
    "weak_supervision",
)


def _extend_search_path() -> None:
    """Put our packages first on the search path.

    Raises:
        ImportError: Another package of the same name was imported before.
    """
    for name in _PACKAGES:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and not Path(file).resolve().is_relative_to(_ROOT):
            raise ImportError(
                f"{name} was already imported from {Path(file).parent}, but medical_lightning has a"
                f" package of this name; import medical_lightning first, or rename that package"
            )
    root = str(_ROOT)
    sys.path[:] = [root, *(path for path in sys.path if path != root)]
    children = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in children:  # trials, ranks and jobs of a cluster are processes of their own
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, children)])


_extend_search_path()


def __getattr__(name: str) -> Any:
    if name == "run":
        from engine.tasks import run

        return run
    if name == "RunFolder":
        from reporting.run_folder import RunFolder

        return RunFolder
    if name == "Predictor":
        from deployment.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Run the command line, as `python run.py` does in a clone."""
    from run import main as run_main

    run_main()
