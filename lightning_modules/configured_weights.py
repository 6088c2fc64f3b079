"""Pretrained weights that a configuration names, and those that a checkpoint replaces."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from lightning_modules.pretrained.encoder_config import BUILT_BY_WEIGHTS, EncoderConfig

if TYPE_CHECKING:
    from lightning_modules.pretrained.resolver import WeightsRequest

OWN = "lightning_modules.networks."  # networks of a user's own have keys of another meaning
SAM2 = "SAM2Segmenter"
INSTEAD = "start from a run of the same network with init_from=RUN"  # where scratch is refused


def weight_keys(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the network's keys that name pretrained weights, and their values."""

    def iter_weights(node: DictConfig, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield the keys of pretrained weights below a node, and their values."""
        for name, value in node.items():
            if OmegaConf.is_dict(value):
                yield from iter_weights(value, f"{prefix}{name!s}.")
            elif name == "weights" and isinstance(value, str):
                yield f"{prefix}{name!s}", value

    yield from iter_weights(cfg.module.net, "module.net.")


def is_own_network(cfg: DictConfig) -> bool:
    """Return True if the network is built by this project, not one of the user's own."""
    net = cfg.module.net
    parts = [net, *(value for value in net.values() if OmegaConf.is_dict(value))]
    targets = [str(part.get("_target_", OWN)) for part in parts]
    return "_target_" in net and all(target.startswith(OWN) for target in targets)


def weights_key(cfg: DictConfig) -> str:
    """Return the key that names the pretrained weights of a network of this project."""
    return "module.net.encoder.weights" if "encoder" in cfg.module.net else "module.net.weights"


def drop_replaced_weights(cfg: DictConfig, checkpoints: Sequence[Path]) -> bool:
    """Set the keys of pretrained weights to null if a checkpoint contains all weights.

    Args:
        cfg: Configuration of the network; it is changed.
        checkpoints: Checkpoints that the run starts from.

    Returns:
        True if a key was changed.
    """
    from lightning_modules.checkpoint_io import holds_all_weights  # torch, not for `weight_keys`

    named = [
        key
        for key, _ in weight_keys(cfg)
        if OmegaConf.select(cfg, f"{key.rpartition('.')[0]}.name") not in BUILT_BY_WEIGHTS
    ]
    if not named or not any(map(holds_all_weights, checkpoints)):
        return False
    for key in named:
        OmegaConf.update(cfg, key, None)
    return True


def find_requests(cfg: DictConfig) -> list["WeightsRequest"]:
    """Return the requests for all pretrained weights of an experiment: network and segmenter.

    Networks of the user's own are not known and left out.

    Args:
        cfg: Configuration of a run.

    Raises:
        UserError: A library has no weights of a name.
    """
    from lightning_modules.pretrained.requests import (
        SAM2_KEY,
        UPERNET_KEY,
        classifier_request,
        encoder_request,
        sam2_request,
        transformers_request,
    )

    net = cfg.module.net
    found: list[Any] = []
    target = str(net.get("_target_", ""))
    if target.startswith(OWN) and OmegaConf.is_dict(net.get("encoder")):
        values = {str(key): value for key, value in net.encoder.items()}
        encoder = EncoderConfig(**values)
        if target.endswith("classifier"):
            found.append(classifier_request(net.library, encoder))
        else:
            found.append(encoder_request(encoder))
    elif target.startswith(OWN) and target.endswith("UperNet") and net.weights is not None:
        found.append(transformers_request(UPERNET_KEY, net.weights, "UPerNet", net.weights_folder))
    segmenter = OmegaConf.select(cfg, SAM2_KEY.rpartition(".")[0])
    if segmenter is not None and str(segmenter.get("_target_", "")).endswith(SAM2):
        folder = segmenter.get("weights_folder")
        found.append(sam2_request(segmenter.weights, folder))
    found = [request for request in found if request is not None]
    if not freezes_weights(cfg):
        return found
    return [replace(each, alternative=each.alternative or INSTEAD) for each in found]


def freezes_weights(cfg: DictConfig) -> bool:
    """Return True if a configuration freezes the encoder, so that it must not be random."""
    net = cfg.module.net
    probe = str(net.get("_target_", "")).endswith("build_frozen_classifier")
    freezing = OmegaConf.select(cfg, "callbacks.freeze_encoder._target_")
    return probe or net.get("lora") is not None or freezing is not None
