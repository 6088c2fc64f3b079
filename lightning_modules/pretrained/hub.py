"""Pretrained weights on servers: the Hugging Face hub, its local cache, and plain addresses."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_modules.pretrained.folder import hash_file
from lightning_modules.pretrained.sources import HubWeights, UrlWeights

HUB_PACKAGES = {
    "huggingface_hub",
    "httpx",
    "httpcore",
    "requests",
    "urllib3",
}  # packages whose errors mean that weights cannot be downloaded
TRUE_VALUES = ("1", "ON", "YES", "TRUE")  # values that huggingface_hub reads as true
TIMEOUT = 10  # seconds to wait for a server's answer
HASH_DIGITS = 8  # digits of the SHA-256 in the name of a file of torchvision


class DownloadError(Exception):
    """Error for weights that no server gave; the text is the reason."""


def is_hub_error(error: Exception) -> bool:
    """Return True if the error comes from a client that downloads weights."""
    return type(error).__module__.split(".")[0] in HUB_PACKAGES


@dataclass(frozen=True)
class Repository:
    """What the hub tells of a repository.

    Attributes:
        revision: Commit.
        sizes: Bytes of each file.
        hashes: SHA-256 of each large file; small files have none on the hub.
        license: License that its model card states; None if it states none.
    """

    revision: str
    sizes: Mapping[str, int]
    hashes: Mapping[str, str]
    license: str | None


def read_repository(source: HubWeights) -> Repository:
    """Ask the hub for the files of a repository; it is asked once, so an error comes at once.

    Raises:
        DownloadError: The hub does not answer, or has no such repository.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        raise DownloadError("HF_HUB_OFFLINE is set")
    try:
        about: Any = HfApi().model_info(
            source.repo_id, revision=source.revision, files_metadata=True, timeout=TIMEOUT
        )
    except Exception as error:
        raise DownloadError(_reason(error)) from error
    files = about.siblings or []
    card = about.card_data or {}
    return Repository(
        revision=about.sha,
        sizes={file.rfilename: int(file.size or 0) for file in files},
        hashes={file.rfilename: file.lfs.sha256 for file in files if file.lfs},
        license=card.get("license") or source.license,
    )


def choose_files(source: HubWeights, available: Sequence[str]) -> list[str]:
    """Choose the files to download: one of weights, the needed ones, the optional ones.

    Raises:
        DownloadError: The repository lacks one that is needed.
    """
    weights = next((name for name in source.files if name in available), None)
    lacking = [name for name in source.needed if name not in available]
    if weights is None or lacking:
        wanted = lacking[0] if lacking else " or ".join(source.files)
        raise DownloadError(f"{source.repo_id} has no file {wanted}")
    return [weights, *source.needed, *(name for name in source.optional if name in available)]


def find_in_cache(source: HubWeights | UrlWeights) -> dict[str, Path] | None:
    """Find weights in the local caches of huggingface_hub and torch; None if they are not there."""
    if isinstance(source, UrlWeights):
        import torch

        path = Path(torch.hub.get_dir()) / "checkpoints" / source.file
        return {source.file: path} if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    def cached(name: str) -> Path | None:
        """Return a file of the local cache; None if it is not there."""
        found = try_to_load_from_cache(source.repo_id, name, revision=source.revision)
        return Path(found) if isinstance(found, str) else None

    weights = next(((name, path) for name in source.files if (path := cached(name))), None)
    needed = {name: cached(name) for name in source.needed}
    if weights is None or None in needed.values():
        return None
    optional = {name: cached(name) for name in source.optional}
    found = {weights[0]: weights[1], **needed, **optional}
    return {name: path for name, path in found.items() if path is not None}


def download(source: HubWeights | UrlWeights) -> tuple[dict[str, Path], str | None]:
    """Download weights into the local cache of huggingface_hub or torch.

    Returns:
        The files by their names, the one of weights first, and the license.

    Raises:
        DownloadError: They cannot be downloaded, or have another SHA-256 than the server states.
    """
    if isinstance(source, UrlWeights):
        import torch

        path = Path(torch.hub.get_dir()) / "checkpoints" / source.file
        download_url(source, path)
        return {source.file: path}, source.license
    about = read_repository(source)
    names = choose_files(source, list(about.sizes))
    place = download_files(source, about, names)
    return {name: place / name for name in names}, about.license


def download_files(
    source: HubWeights, about: Repository, names: Sequence[str], folder: Path | None = None
) -> Path:
    """Download files of a repository; a download that was interrupted is continued.

    Args:
        source: The repository.
        about: What the hub tells of it.
        names: Names of the files.
        folder: Folder to put them in; None for the local cache.

    Returns:
        The folder that holds the files.

    Raises:
        DownloadError: A file cannot be downloaded, or has another SHA-256 than the hub states; it
            is then deleted.
    """
    from huggingface_hub import snapshot_download

    try:
        place = Path(
            snapshot_download(
                source.repo_id,
                revision=about.revision if folder is not None else source.revision,
                allow_patterns=list(names),
                local_dir=folder,
                etag_timeout=TIMEOUT,
            )
        )
    except Exception as error:
        raise DownloadError(_reason(error)) from error
    for name in names:
        path = place / name
        if not path.is_file():
            raise DownloadError(f"{name} is missing after the download")
        wanted = about.hashes.get(name)
        if wanted and hash_file(path) != wanted:
            found = hash_file(path)
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise DownloadError(
                f"{name} has the SHA-256 {found[:16]}..., and the hub states {wanted[:16]}...; the"
                " file was deleted"
            )
    return place


def download_url(source: UrlWeights, path: Path) -> None:
    """Download the file of an address; its SHA-256 must begin with the digits in its name.

    Raises:
        DownloadError: It cannot be downloaded, or is another file.
    """
    import torch

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in TRUE_VALUES:
        raise DownloadError("HF_HUB_OFFLINE is set")
    path.parent.mkdir(parents=True, exist_ok=True)
    digits = path.stem.rpartition("-")[2]
    prefix = digits if len(digits) == HASH_DIGITS else None
    try:
        torch.hub.download_url_to_file(source.url, str(path), prefix, progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise DownloadError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Return the first line of an error."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")[:160]
