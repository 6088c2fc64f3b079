"""Files that Hydra writes into a run folder before it is known if the run is refused.

A refused command in the folder of an earlier run must not replace the settings of that run.
"""

from pathlib import Path

from datamodules.formats.atomic_write import atomic_write

_earlier: dict[Path, dict[Path, bytes]] = {}  # run folder -> contents of its files


def keep_hydra_files(folder: Path) -> None:
    """Keep what an earlier run has in `.hydra`."""
    found = {path: path.read_bytes() for path in (folder / ".hydra").glob("*.yaml")}
    _earlier[folder.absolute()] = found


def restore_hydra_files(folder: Path) -> None:
    """Write the kept files again, because the run was refused."""
    for path, content in _earlier.pop(folder.absolute(), {}).items():
        atomic_write(path, content)


def forget_hydra_files(folder: Path) -> None:
    """Forget the kept files, because the run was accepted."""
    _earlier.pop(folder.absolute(), None)
