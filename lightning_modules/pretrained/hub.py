"""Pretrained weights on servers: the Hugging Face hub, its local cache, and plain addresses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.formats.file_hash import hash_file
from lightning_modules.pretrained.quiet_logger import quiet_logger
from lightning_modules.pretrained.sources import HubWeights, UrlWeights

CLIENT = "huggingface_hub"  # it logs each retry twice; the last error is raised
TIMEOUT = 10  # seconds to wait for a server's answer


class DownloadError(Exception):
    """Error for weights that no server gave; the text is the reason."""


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


def server_of(source: HubWeights | UrlWeights) -> str:
    """Return the address of the server that holds weights."""
    if isinstance(source, UrlWeights):
        return source.url
    from huggingface_hub import constants

    return constants.ENDPOINT


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

    weights = next(((name, there) for name in source.files if (there := cached(name))), None)
    needed = {name: cached(name) for name in source.needed}
    if weights is None or None in needed.values():
        return None
    optional = {name: cached(name) for name in source.optional}
    files: dict[str, Path | None] = {weights[0]: weights[1], **needed, **optional}
    return {name: path for name, path in files.items() if path is not None}


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
    place = _download_to_cache(source, about, names)
    return {name: place / name for name in names}, about.license


def _download_to_cache(source: HubWeights, about: Repository, names: Sequence[str]) -> Path:
    """Download files of a repository into the local cache; return the folder that holds them.

    Raises:
        DownloadError: A file cannot be downloaded, or has another SHA-256 than the hub states; it
            is then deleted.
    """
    from huggingface_hub import snapshot_download

    try:
        with quiet_logger(CLIENT):
            place = Path(
                snapshot_download(
                    source.repo_id,
                    revision=source.revision,
                    allow_patterns=list(names),
                    etag_timeout=TIMEOUT,
                )
            )
    except Exception as error:
        raise DownloadError(_reason(error)) from error
    for name in names:
        _check_hash(place / name, about.hashes.get(name), name)
    return place


def _check_hash(path: Path, wanted: str | None, name: str) -> None:
    """Delete a file that has another SHA-256 than its server states.

    Args:
        path: The file.
        wanted: The SHA-256, or its first digits; None if the server states none.
        name: Name of the file for messages.
    """
    if not path.is_file():
        raise DownloadError(f"{name} is missing after the download")
    found = hash_file(path)
    if wanted and not found.startswith(wanted):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"{name} has the SHA-256 {found[:16]}..., and its server states"
            f" {wanted[:16]}...; the file was deleted"
        )


def download_from_repository(
    source: HubWeights, about: Repository, name: str, target: Path
) -> None:
    """Download one file of a repository to a path, see `download_file`."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(source.repo_id, name, revision=about.revision)
    download_file(url, target, about.hashes.get(name), about.revision[:8], build_hf_headers())


def download_url(source: UrlWeights, target: Path) -> None:
    """Download the file of an address; its SHA-256 must begin with the digits in its name."""
    download_file(source.url, target, source.digits, "url", {})


def download_file(
    url: str, target: Path, sha256: str | None, version: str, headers: Mapping[str, str]
) -> None:
    """Download a file; a download that was interrupted, or killed, continues where it stopped.

    Args:
        url: Address.
        target: Path of the file, which is there as a whole or not at all.
        sha256: SHA-256 of the content, or its first digits; None if unknown.
        version: Version of the file; parts of another version are not continued.
        headers: Headers of the request.

    Raises:
        DownloadError: It cannot be downloaded, or has another SHA-256.
    """
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.file_download import http_get

    if is_offline_mode():
        raise DownloadError("HF_HUB_OFFLINE is set")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{version}.part")
    try:
        with quiet_logger(CLIENT), part.open("ab") as file:
            http_get(url, file, resume_size=file.tell(), headers=dict(headers))
    except Exception as error:
        raise DownloadError(_reason(error)) from error
    _check_hash(part, sha256, target.name)
    part.replace(target)


def _reason(error: Exception) -> str:
    """Return the first line of an error."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".:")[:160]
