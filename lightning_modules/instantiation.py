"""Instantiation of parts of the configuration, from allowed packages only."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from hydra.errors import InstantiationException
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


class AllowedModules(NamedTuple):
    """Modules of the user's own that the configuration may name.

    Attributes:
        names: Dotted names.
        folders: Where they may stand.
    """

    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


NO_MODULES = AllowedModules()
_allowed: ContextVar[AllowedModules] = ContextVar("allowed modules", default=NO_MODULES)


@contextmanager
def allow_modules(names: Sequence[str], folders: Sequence[str]) -> Iterator[None]:
    """Add modules to what a configuration may call, while the context lasts.

    Args:
        names: Dotted names of modules that the user listed on the command line or in an experiment.
        folders: Where they may stand.
    """
    token = _allowed.set(AllowedModules(tuple(names), tuple(folders)))
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed_modules() -> AllowedModules:
    """Return the modules of the user's own that the configuration may name now."""
    return _allowed.get()


def check_target(key: str, target: str) -> None:
    """Refuse a `_target_` outside of the packages that a configuration may call.

    Args:
        key: Full key of the `_target_`.
        target: Its value.

    Raises:
        ArgumentError: The sentence says how to allow a module of the user's own.
    """
    if not any(target.startswith(pattern.removesuffix("*")) for pattern in _whitelist()):
        raise ArgumentError("", [key], _refusal(target), "")


def _whitelist() -> tuple[str, ...]:
    return (*WHITELIST, *(f"{name}.*" for name in allowed_modules().names))


def _refusal(target: str) -> str:
    top = target.partition(".")[0]
    return (
        f"={target} is in no package that a configuration may name; if {top} is a module of your"
        f" own, add code=[{top}]"
    )


NOT_ALLOWED = re.compile(r"Target '([\w.]+)'.* is not in the Hydra execution whitelist", re.DOTALL)


def instantiate_config(part: Any, **more: Any) -> Any:
    """Instantiate a part of the configuration.

    Raises:
        ArgumentError: An argument is not allowed; the message names its key as the user writes it.
    """
    try:
        return instantiate(part, _convert_="all", _execution_whitelist_=_whitelist(), **more)
    except ArgumentError as error:
        raise error.with_key(user_key(part, _failed_key(error), error.key())) from error
    except TypeError as error:
        refusal = _refuse_argument(part, error)
        if refusal is None:
            raise
        raise refusal from error
    except InstantiationException as error:
        refused = NOT_ALLOWED.search(str(error))
        if refused is None:
            raise
        raise ArgumentError("", ["_target_"], _refusal(refused[1]), "") from error


UNEXPECTED = re.compile(r"^(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")


def _refuse_argument(part: Any, error: TypeError) -> ArgumentError | None:
    """Return a sentence on a key that a class does not take; None for any other error.

    It is usual where `_target_` was replaced: the keys of the class before it are still there.
    """
    found, place = UNEXPECTED.search(str(error)), _failed_key(error)
    target = OmegaConf.select(part._get_root(), f"{place}._target_") if place else None
    if found is None or target is None or target.rpartition(".")[2] != found[1]:
        return None
    key, group = user_key(part, place, found[2]), place.replace(".", "/")
    return ArgumentError(
        "",
        (key,),
        f" is no argument of {target}; leave it out with ~{key}, or describe the class in a file"
        f" conf/{group}/NAME.yaml and choose {group}=NAME",
        "",
    )


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
