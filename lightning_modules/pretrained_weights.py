"""Pretrained weights that the configuration names, and those that a checkpoint replaces."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

# torchvision builds these networks differently if they have weights
BUILT_BY_WEIGHTS = ("googlenet", "inception_v3")


def weight_keys(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yield the network's keys that name pretrained weights, and their values."""

    def iter_weights(node: DictConfig, prefix: str) -> Iterator[tuple[str, str]]:
        """Yield the keys of pretrained weights below a node, and their values."""
        for name, value in node.items():
            if OmegaConf.is_dict(value):
                yield from iter_weights(value, f"{prefix}{name!s}.")
            elif str(name).split("_")[-1] == "weights" and isinstance(value, str):
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
        if OmegaConf.select(cfg, f"{key.rpartition('.')[0]}.architecture") not in BUILT_BY_WEIGHTS
    ]
    if not named or not any(map(holds_all_weights, checkpoints)):
        return False
    for key in named:
        OmegaConf.update(cfg, key, None)
    return True
