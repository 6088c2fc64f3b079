"""Instantiation of parts of the configuration, from allowed packages only."""

import re
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from datamodules.arguments import ArgumentError

# packages that a config may call; callables that a target returns count too (networks, pipelines)
WHITELIST = (
    *("datamodules.*", "evaluation.*", "lightning_modules.*", "weak_supervision.*", "callbacks.*"),
    *("engine.tracking.*", "lightning.*", "torch.*"),
    *(
        "albumentations.*",
        "segmentation_models_pytorch.*",
        "timm.*",
        "torchvision.*",
        "optuna.pruners.*",
    ),
)


def instantiate_config(part: Any, **more: Any) -> Any:
    """Instantiate a part of the configuration.

    Raises:
        ArgumentError: An argument is not allowed; the message names its key as the user writes it.
    """
    try:
        return instantiate(part, _convert_="all", _execution_whitelist_=WHITELIST, **more)
    except ArgumentError as error:
        raise error.with_key(user_key(part, _failed_key(error), error.key())) from error


def _failed_key(error: Exception) -> str:
    """Return the key of the innermost object that failed, from the notes Hydra adds to an error."""
    notes = [note.partition("full_key: ")[2] for note in getattr(error, "__notes__", ())]
    return next(filter(None, notes), "")


def user_key(part: Any, place: str, argument: str) -> str:
    """Return the key under which the user writes an argument.

    `evaluation_size=64` is written at the root and reaches `datamodule` by an interpolation.
    """
    root, keys = part._get_root(), [*filter(None, place.split(".")), *argument.split(".")]
    for number in range(1, len(keys) + 1):
        parent = OmegaConf.select(root, ".".join(keys[: number - 1])) if number > 1 else root
        name = keys[number - 1]
        if (
            not OmegaConf.is_dict(parent)
            or name not in parent
            or not OmegaConf.is_interpolation(parent, name)
        ):
            continue
        origin = str(OmegaConf.to_container(parent, resolve=False)[name])  # type: ignore[index,call-overload]
        if re.fullmatch(r"\$\{[\w.]+\}", origin):
            return ".".join([origin[2:-1], *keys[number:]])
    return ".".join(keys)


def plain_config(cfg: DictConfig, key: str) -> Any:
    """Return the value of a key as plain data with resolved interpolations; None if missing."""
    value = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
