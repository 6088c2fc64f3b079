"""Check of a data set's folder; this module imports nothing heavy."""

from pathlib import Path

from datamodules.errors import ManifestError


def check_root(root: Path) -> None:
    """Refuse a data folder that does not exist or is empty.

    Raises:
        ManifestError: The folder is missing or empty; the message names the key.
    """
    if not root.is_dir():
        raise ManifestError(
            f"datamodule.root={root} is not a folder; set DATA_ROOT, or datamodule.root=... on the"
            " command line"
        )
    if not any(root.iterdir()):
        raise ManifestError(
            f"datamodule.root={root} is an empty folder; put the data set there, or set"
            " datamodule.root=..."
        )
