"""Resolver of pretrained weights: one order of places for all libraries.

1. a file (or, for a network of transformers, a folder) that the configuration names,
2. the folder `paths.weights`, which `do=[fetch]` fills,
3. an installed package that holds the weights,
4. the local cache of huggingface_hub or torch,
5. the hub or the server of the library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import UserError
from datamodules.formats.file_hash import hash_file
from lightning_modules.pretrained.folder import (
    describe_folder,
    find_in_folder,
    names_in_folder,
)
from lightning_modules.pretrained.hub import DownloadError, download, find_in_cache
from lightning_modules.pretrained.sources import (
    AUTO,
    IMAGENET,
    PACKAGES,
    HubWeights,
    PackagedWeights,
    UrlWeights,
    installed_packages,
)

EXTRA = "uv sync --extra pretrained"
DEFAULT_FOLDER = "weights"  # of conf/run.yaml, which need not exist
UNKNOWN = " (unknown origin)"  # of a file that neither a manifest nor its SHA-256 tells about


@dataclass(frozen=True)
class WeightsRequest:
    """Pretrained weights that a configuration asks for.

    Attributes:
        key: Configuration key.
        value: Value of the key: `imagenet`, another name of the library, `auto`, or a path.
        network: Name of the network in its library.
        source: Where the library publishes them; None if it does not.
        folder: The folder `paths.weights`; None if there is none.
        several_files: True if a path must be a folder, as for networks of transformers.
        alternative: Another way without these weights, for the message.
    """

    key: str
    value: str
    network: str
    source: HubWeights | UrlWeights | None
    folder: Path | None = None
    several_files: bool = False
    alternative: str = ""

    @property
    def package(self) -> PackagedWeights | None:
        """Package that holds the weights; None if there is none."""
        return PACKAGES.get(self.network) if self.value in (IMAGENET, AUTO) else None

    @property
    def is_path(self) -> bool:
        """True if the value names a file or folder of the user's, not weights of a library."""
        if self.value in (IMAGENET, AUTO):
            return False
        path = Path(self.value).expanduser()
        named = self.value.startswith(("/", ".", "~")) or bool(path.suffix in FILE_SUFFIXES)
        return path.exists() or named or ("/" in self.value and not self.several_files)


FILE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".npz", ".h5")


@dataclass(frozen=True)
class ResolvedWeights:
    """Pretrained weights that were found.

    Attributes:
        network: Name of the network.
        asked: Value of the configuration.
        origin: `file`, `folder`, `package`, `local hub cache` or `hub`.
        files: Files by their names at the source, the one of weights first.
        sha256: SHA-256 of the file of weights.
        license: License; None if unknown.
        source: Repository, address, package or path.
    """

    network: str
    asked: str
    origin: str
    files: Mapping[str, Path]
    sha256: str
    license: str | None
    source: str

    @property
    def path(self) -> Path:
        """File of weights."""
        return next(iter(self.files.values()))

    @property
    def is_published(self) -> bool:
        """True if they are those of the library, whose mean and std are known."""
        return self.origin != "file" or _known_package(self.sha256) is not None

    def __str__(self) -> str:
        """Return a description in one line."""
        about = [f"SHA-256 {self.sha256[:8]}...", *([self.license] if self.license else [])]
        origin = "paths.weights" if self.origin == "folder" else self.origin
        unknown = "" if self.is_published else UNKNOWN
        what = (
            f"file {self.source}{unknown}" if self.origin == "file" else f"{origin}: {self.source}"
        )
        name = "ImageNet weights" if self.asked in (IMAGENET, AUTO) else f"weights '{self.asked}'"
        name = "weights" if self.origin == "file" else name
        return f"{name} of {self.network} ({what}, {', '.join(about)})"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for report.json and checkpoints, without a path of this machine."""
        return {
            "network": self.network,
            "asked": self.asked if self.origin != "file" else self.path.name,
            "origin": self.origin,
            "source": (
                self.source
                if self.origin != "file"
                else self.path.name + ("" if self.is_published else UNKNOWN)
            ),
            "sha256": self.sha256,
            "license": self.license,
        }


def resolve(request: WeightsRequest, online: bool = True) -> ResolvedWeights | None:
    """Find pretrained weights, or download them.

    Args:
        request: What is asked for.
        online: False to look only on this machine.

    Returns:
        The weights. None for `auto` if this machine has none, and without `online` if they would be
        downloaded.

    Raises:
        UserError: They cannot be had; the message names the ways that work.
    """
    if request.is_path:
        return _resolve_path(request)
    if (there := _look_in_folder(request)) is not None:
        return there
    package = request.package
    if package is not None and (path := package.path()) is not None:
        named = f"{package.distribution} {package.version}"
        return _found(request, "package", {path.name: path}, package.license, named)
    if request.source is None:
        if request.value == AUTO or not online:
            return None
        raise unavailable_error(request, "its library publishes none")
    cached = find_in_cache(request.source)
    if cached is not None:
        named = str(request.source)
        return _found(request, "local hub cache", cached, request.source.license, named)
    if request.value == AUTO or not online:
        return None
    try:
        files, license = download(request.source)
    except DownloadError as error:
        raise unavailable_error(request, str(error)) from error
    return _found(request, "hub", files, license, str(request.source))


def _found(
    request: WeightsRequest,
    origin: str,
    files: Mapping[str, Path],
    license: str | None,
    source: str,
) -> ResolvedWeights:
    sha256 = hash_file(next(iter(files.values())))
    return ResolvedWeights(request.network, request.value, origin, files, sha256, license, source)


def _known_package(sha256: str) -> PackagedWeights | None:
    return next((each for each in PACKAGES.values() if each.sha256 == sha256), None)


def _look_in_folder(request: WeightsRequest) -> ResolvedWeights | None:
    """Find weights in the folder; without the manifest, their hash must tell what they are."""
    if request.folder is None:
        return None
    folder = request.folder.expanduser()
    if not folder.is_dir() and str(request.folder) != DEFAULT_FOLDER:
        raise UserError(
            f"paths.weights={request.folder} is not a folder; correct it (or the variable"
            " MEDICAL_WEIGHTS), or fill it with do=[fetch]"
        )
    found = find_in_folder(folder, request.source, request.network)
    if found is None:
        return None
    files, entry = found
    if entry is not None:
        return _found(request, "folder", files, entry.license, entry.source)
    path = next(iter(files.values()))
    sha256 = hash_file(path)
    package, source = _known_package(sha256), request.source
    if package is not None:
        named = f"{package.distribution} {package.version}"
        return _found(request, "folder", files, package.license, named)
    if isinstance(source, UrlWeights) and source.has_hash(sha256):
        return _found(request, "folder", files, source.license, source.url)
    return _found(request, "file", files, None, str(path))


def _resolve_path(request: WeightsRequest) -> ResolvedWeights:
    path = Path(request.value).expanduser()
    if not request.several_files:
        if path.is_dir() and (path / "checkpoints").is_dir():
            raise UserError(
                f"{request.key}={request.value} is a run folder; start from its weights with"
                f" init_from={request.value} and {request.key}=null"
            )
        if not path.is_file():
            raise UserError(
                f"{request.key}={request.value} is not a file; name a file with a state_dict, or"
                " start from scratch with null"
            )
        return _found(request, "file", {path.name: path}, None, request.value)
    source = request.source
    names = source.files if isinstance(source, HubWeights) else ()
    weights = next((path / name for name in names if (path / name).is_file()), None)
    needed = source.needed if isinstance(source, HubWeights) else ()
    lacking = [name for name in needed if not (path / name).is_file()]
    if weights is None or lacking:
        wanted = lacking[0] if lacking else " or ".join(names)
        what = (
            f"a folder without {wanted} ({describe_folder(path)})"
            if path.is_dir()
            else "not a folder"
        )
        raise UserError(
            f"{request.key}={request.value} is {what}; name a folder with {', '.join(needed)} and"
            f" {names[0]} that save_pretrained of transformers wrote"
        )
    files = {weights.name: weights} | {each.name: each for each in sorted(path.glob("*.json"))}
    return _found(request, "file", files, None, request.value)


def describe_scratch(request: WeightsRequest) -> str:
    """Explain why a network with `auto` starts from scratch, and what would give it weights.

    Args:
        request: What is asked for, which this machine does not have.
    """
    searched = []
    ways = ["fetch them with do=[fetch] on a machine with a network"]
    if request.folder is not None:
        folder, name = request.folder.expanduser(), names_in_folder(request.network)[1]
        nothing = f", and nothing by the name {name}" if folder.is_dir() else ""
        searched = [f"{describe_folder(folder)}{nothing}"]
    if request.package is not None:
        ways = [EXTRA, *ways]
    elif request.key.endswith(".encoder.weights"):
        ways.append(_other_encoder())
    found = f" ({'; '.join(searched)})" if searched else ""
    return (
        f"{request.key}={request.value} found no weights of {request.network} on this machine"
        f"{found}; for ImageNet weights {' or '.join(ways)}"
    )


def _other_encoder() -> str:
    """Name an encoder whose weights are here, or in a package."""
    here = [name.rpartition("_")[2] for name in installed_packages()]
    return (
        f"take an encoder whose weights are here (module/net/encoder={here[0]})"
        if here
        else f"take an encoder whose weights are a package ({EXTRA}, module/net/encoder=lite0)"
    )


def unavailable_error(request: WeightsRequest, reason: str) -> UserError:
    """Make the error for weights that cannot be had, with the ways that work.

    Args:
        request: What is asked for.
        reason: Why they cannot be downloaded.
    """
    ways = []
    if request.package is not None:
        ways.append(f"install them as a package ({EXTRA})")
    ways.append(
        "run the same command with do=[fetch] on a machine with a network and copy its folder"
        " paths.weights"
    )
    ways.append(f"name a {'folder' if request.several_files else 'file'} with {request.key}=PATH")
    if request.key.endswith(".encoder.weights"):
        ways.append(_other_encoder())
    ways.append(request.alternative or f"start from scratch with {request.key}=null")
    folder = "" if request.folder is None else f"; {describe_folder(request.folder.expanduser())}"
    return UserError(
        f"{request.key}={request.value}: the weights of {request.network} are not on this machine,"
        f" and cannot be fetched from {request.source or 'a hub'} ({reason}){folder}; "
        + ", or ".join(ways)
    )
