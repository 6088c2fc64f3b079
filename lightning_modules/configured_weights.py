"""Pretrained weights that a configuration names, and those that a checkpoint replaces."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from lightning_modules.pretrained.encoder_config import BUILT_BY_WEIGHTS, EncoderConfig

if TYPE_CHECKING:
    from lightning_modules.pretrained.resolver import WeightsRequest

OWN = "lightning_modules.networks."  # networks of a user's own have keys of another meaning
SAM2 = "SAM2Segmenter"


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
    found: list[WeightsRequest | None] = []
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
    return [request for request in found if request is not None]
