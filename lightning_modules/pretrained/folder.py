"""Folder of pretrained weights (`paths.weights`): its files, and the manifest of do=[fetch]."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.formats.file_hash import hash_file
from lightning_modules.pretrained.sources import HubWeights, UrlWeights

MANIFEST = "manifest.json"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")  # of files that a user put there by hand
LISTED = 8  # files of a folder that a message names


@dataclass(frozen=True)
class ManifestEntry:
    """What `do=[fetch]` recorded of a file.

    Attributes:
        sha256: SHA-256 of the content.
        size: Bytes.
        source: Repository of the hub, or address.
        revision: Commit of the repository; None for an address.
        license: License that the source states; None if it states none.
    """

    sha256: str
    size: int
    source: str
    revision: str | None = None
    license: str | None = None


def read_manifest(folder: Path) -> dict[str, ManifestEntry]:
    """Read the manifest of a folder of weights; empty if there is none.

    Args:
        folder: The folder.

    Returns:
        Path within the folder -> entry.

    Raises:
        UserError: The manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): ManifestEntry(**entry) for name, entry in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a manifest that do=[fetch] wrote ({error}); fetch the weights again"
            " into an empty folder"
        ) from error


def write_manifest(folder: Path, entries: Mapping[str, ManifestEntry]) -> None:
    """Write the manifest of a folder of weights; it is replaced as a whole."""
    content: dict[str, Any] = {"files": {name: asdict(entries[name]) for name in sorted(entries)}}
    new = folder / f".{MANIFEST}.new"
    new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    new.replace(folder / MANIFEST)


def file_in_folder(source: HubWeights | UrlWeights, name: str) -> str:
    """Return the path of a source's file within the folder."""
    return (
        f"{source.repo_id}/{name}" if isinstance(source, HubWeights) else f"{source.library}/{name}"
    )


def find_in_folder(
    folder: Path, source: HubWeights | UrlWeights | None, network: str
) -> tuple[dict[str, Path], ManifestEntry | None] | None:
    """Find weights in a folder, and check them against its manifest.

    Args:
        folder: The folder (`paths.weights`).
        source: Where the library publishes the weights.
        network: Name of the network, for files that a user put there by hand (`resnet34.pth`).

    Returns:
        The files by their names at the source, the one of weights first, and its entry in the
        manifest (None for a file that was put there by hand). None if the weights are not there.

    Raises:
        UserError: A file does not have the SHA-256 of the manifest, or several files fit.
    """
    if not folder.is_dir():
        return None
    manifest = read_manifest(folder)
    found = None if source is None else _find_files(folder, source)
    there = [] if found is None else [found]
    if not (isinstance(source, HubWeights) and source.needed):  # else it is several files
        by_name = (folder / name for name in names_in_folder(network))
        there += [{path.name: path} for path in by_name if path.is_file()]
    if not there:
        return None
    inside = [next(iter(files.values())).relative_to(folder).as_posix() for files in there]
    if len(there) > 1:
        raise UserError(
            f"paths.weights={folder} holds {' and '.join(inside)}, which all fit {network};"
            " keep one of them"
        )
    for path in there[0].values():
        _check_hash(folder, path.relative_to(folder).as_posix(), manifest)
    return there[0], manifest.get(inside[0])


def names_in_folder(network: str) -> list[str]:
    """Return the names by which a file of weights that a user put there is found."""
    return [f"{network}{suffix}" for suffix in SUFFIXES]


def _find_files(folder: Path, source: HubWeights | UrlWeights) -> dict[str, Path] | None:
    """Find the files of a source, the one of weights first; None if one that is needed lacks."""
    if isinstance(source, UrlWeights):
        path = folder / file_in_folder(source, source.file)
        return {source.file: path} if path.is_file() else None
    for name in source.files:
        paths = {each: folder / file_in_folder(source, each) for each in (name, *source.needed)}
        if all(path.is_file() for path in paths.values()):
            more = {each: folder / file_in_folder(source, each) for each in source.optional}
            return paths | {each: path for each, path in more.items() if path.is_file()}
    return None


def _check_hash(folder: Path, name: str, manifest: Mapping[str, ManifestEntry]) -> None:
    entry = manifest.get(name)
    if entry is None:
        return
    found = hash_file(folder / name)
    if found != entry.sha256:
        raise UserError(
            f"{folder / name} is damaged or was replaced: its SHA-256 is {found[:16]}..., and"
            f" {MANIFEST} there has {entry.sha256[:16]}...; delete the file and fetch it again with"
            " do=[fetch]"
        )


def describe_folder(folder: Path) -> str:
    """Describe what a folder of weights holds, for a message."""
    if not folder.is_dir():
        return f"{folder} does not exist"
    names = list_weights(folder)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{folder} holds {', '.join(names[:LISTED]) + more if names else 'no weights'}"


def list_weights(folder: Path) -> Sequence[str]:
    """List the files of weights in a folder, relative to it."""
    found = (path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    return sorted(
        path.relative_to(folder).as_posix()
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
