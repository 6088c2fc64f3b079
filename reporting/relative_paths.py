"""Paths on pages: relative to the run, the data or the person's home, because pages are shared.

An absolute path tells user names, hosts and the names of other projects.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

FOLDER_NAMES = {  # key of a folder in the configuration -> what stands for it on a page
    "datamodule.root": "DATA",
    "paths.data": "DATA_ROOT",
    "paths.cache": "CACHE",
    "paths.weights": "WEIGHTS",
    "paths.runs": "RUNS",
    "paths.run": "RUN",
}


def page_folders(config: Mapping[str, Any] | None, run_dir: Path | None = None) -> dict[str, str]:
    """Return absolute folder -> its name on a page.

    Args:
        config: Configuration of the run.
        run_dir: Folder of the page, whose name is `.`.
    """
    found: dict[str, str] = {str(Path.home()): "~", str(Path.cwd()): "."}
    for key, name in FOLDER_NAMES.items():
        group, _, leaf = key.partition(".")
        part = (config or {}).get(group)
        value = part.get(leaf) if isinstance(part, Mapping) else None
        if isinstance(value, str) and value:
            found.setdefault(str(Path(value).absolute()), name)
    if run_dir is not None:
        for place in (run_dir.absolute(), run_dir.resolve()):
            found[str(place)] = "."
    return {folder: name for folder, name in found.items() if len(Path(folder).parts) > 1}


def hide_folders(text: str, folders: Mapping[str, str]) -> str:
    """Replace absolute folders in a text by their names, the longest first."""
    for folder in sorted(folders, key=len, reverse=True):
        for written in {folder, escape(folder)}:
            text = text.replace(written, folders[folder])
    return text


def relative_config(value: Any, folders: Mapping[str, str]) -> Any:
    """Return a configuration without absolute paths; of one outside all folders the name is left.

    Args:
        value: Configuration of nested mappings and lists.
        folders: See `page_folders`.
    """
    if isinstance(value, Mapping):
        return {key: relative_config(part, folders) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [relative_config(part, folders) for part in value]
    if not isinstance(value, str):
        return value
    shown = hide_folders(value, folders)
    if PurePosixPath(shown).is_absolute() or PureWindowsPath(shown).is_absolute():
        return f".../{PureWindowsPath(shown).name}"
    return shown
