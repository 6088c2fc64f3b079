"""Read pretrained weights and put them into a network; what does not fit is refused."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from lightning_modules.checkpoint_schema import find_damage, is_finite
from lightning_modules.pretrained.quiet_logger import quiet_logger

COUNTER = "num_batches_tracked"  # BatchNorm's number of batches: no weight, absent in older files
NESTED = ("state_dict", "model", "model_state_dict")  # keys below which files keep the weights
PREFIXES = ("module.", "_orig_mod.")  # of networks that were wrapped by DDP or torch.compile
# part of a parameter's name that holds the stages, layers or blocks of an encoder, with its number
CONTAINER = re.compile(r"(?:\w*?(?:stage|layer|block)s?|features|s|b)_?(\d*)")
LEVELS = 2  # at most a stage and a block in it; deeper numbers are those of layers in a block


def read_weights(path: Path, key: str) -> dict[str, Tensor]:
    """Read a state_dict from a file of torch.save or safetensors; no code in it is run.

    Args:
        path: The file.
        key: Configuration key, for error messages.

    Returns:
        Name -> tensor on the CPU.

    Raises:
        UserError: The file is damaged, holds other objects than tensors, or numbers that are not
            finite.
    """
    reason = find_damage(path)
    if reason:
        raise UserError(f"{key}={path} cannot be read as weights ({reason}); name another file")
    with path.open("rb") as file:
        start = file.read(16)
    is_safetensors = path.suffix == ".safetensors" or start[8:10] == b'{"'
    try:
        found: Any = (
            _read_safetensors(path)
            if is_safetensors
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # damaged pickles make torch raise anything, also IndexError
        raise UserError(
            f"{key}={path} cannot be read as weights ({_explain(path, error)}); name another file"
        ) from error
    return _check_tensors(_unpack(found), path, key)


def _explain(path: Path, error: Exception) -> str:
    return explain_unreadable(path, error, "torch.save or safetensors")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path, device="cpu")


def explain_unreadable(path: Path, error: Exception, formats: str = "torch.save") -> str:
    """Explain why a file of tensors cannot be read.

    Args:
        path: The file.
        error: Error of the reader.
        formats: Formats that the reader knows.
    """
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return str(error.strerror).lower()
    if not path.is_file():
        return "it is no file"
    if not path.stat().st_size:
        return "the file is empty"
    if type(error).__name__ == "SafetensorError":
        return "the file is damaged or incomplete"
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if isinstance(error, pickle.UnpicklingError) and (
        "GLOBAL" in str(error) or zipfile.is_zipfile(path)
    ):
        return "it holds Python objects, which may run code; only tensors and plain values are read"
    return "the file is damaged or incomplete" if zipped else f"no file of {formats}"


def _unpack(found: Any) -> Any:
    """Return the state_dict within a file, without prefixes of wrappers."""
    for name in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    if not isinstance(found, Mapping):
        return found
    for prefix in PREFIXES:
        if found and all(str(name).startswith(prefix) for name in found):
            found = {str(name).removeprefix(prefix): value for name, value in found.items()}
    return found


def _check_tensors(state: Any, path: Path, key: str) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not any(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{key}={path} holds no weights; name a file with a state_dict")
    if any(str(name).startswith(("net.", "normalize.")) for name in state):
        raise UserError(
            f"{key}={path} is a checkpoint of this repository; start from it with"
            f" init_from={path} and {key}=null"
        )
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong:
        kind = type(state[wrong[0]]).__name__
        raise UserError(
            f"{key}={path} is not a state_dict: '{wrong[0]}' is no tensor but a {kind}; name"
            " another file"
        )
    broken = [name for name, value in state.items() if not is_finite(value)]
    if broken:
        raise UserError(
            f"{key}={path} holds numbers that are not finite (the first are in {broken[0]}); name"
            " another file"
        )
    layers = [value for value in state.values() if value.is_floating_point() and value.ndim > 1]
    constant = sum(bool(value.amin() == value.amax()) for value in layers if value.numel() > 1)
    if 2 * constant > len(layers):
        raise UserError(
            f"{key}={path} holds no trained weights: all numbers are the same in {constant} of its"
            f" {len(layers)} layers; name another file"
        )
    return {str(name): value for name, value in state.items()}


def rename_efficientnet(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Rename the weights of lukemelas' EfficientNet, as the packages hold them, to timm's names.

    Both libraries define the same layers in the same order, so that the names are paired by order;
    shapes are compared by `match_state`.

    Args:
        state: The weights; returned unchanged if they have other names.
        own: The state_dict of timm's network.
    """
    if "_conv_stem.weight" not in state:
        return dict(state)
    theirs = [name for name in state if not name.endswith(COUNTER)]
    ours = [name for name in own if not name.endswith(COUNTER)]
    if len(theirs) != len(ours):
        return dict(state)  # another network, which `match_state` refuses
    return {name: state[other] for name, other in zip(ours, theirs, strict=True)}


def check_prefix(own: Iterable[str], state: Iterable[str], path: Path, key: str) -> None:
    """Refuse weights whose names all begin with a further prefix, such as `encoder.`.

    Args:
        own: Names of the network's weights.
        state: Names of the pretrained weights.
        path: Their file, for messages.
        key: Configuration key, for messages.

    Raises:
        UserError: Most of the network's names are there behind a prefix, and none without it.
    """
    wanted = [name for name in own if not name.endswith(COUNTER)]
    there = set(state)
    if not wanted or there.intersection(wanted):
        return
    ends = {name.removesuffix(wanted[0]) for name in there if name.endswith(f".{wanted[0]}")}
    for prefix in sorted(ends):
        behind = {f"{prefix}{name}" for name in wanted} & there
        if 2 * len(behind) > len(wanted):
            others = len([name for name in there if not name.startswith(prefix)])
            raise UserError(
                f"{key}={path} has names that begin with '{prefix}'"
                + (f" ({others} others do not, as in a file of a whole network)" * bool(others))
                + f"; write a file of these weights without '{prefix}' (or, for the weights of a"
                f" run, start from it with init_from=RUN and {key}=null)"
            )


def match_state(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    path: Path,
    key: str,
    replaced: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Return the state_dict of a network with pretrained weights in it.

    The first convolution is adapted to the channels of the images: for gray images its weights are
    summed over the channels, which gives the same as a gray image in all channels.

    Args:
        own: State_dict of the network.
        state: Pretrained weights by the same names.
        path: Their file, for messages.
        key: Configuration key, for messages.
        replaced: Beginnings of names of layers that may differ, such as the head's.

    Raises:
        UserError: Weights are missing, have another shape, or belong to a larger network.
    """
    adapted = {
        name: _adapt_input(value, own[name]) if name in own else value
        for name, value in state.items()
    }
    wanted = [name for name in own if not name.startswith(replaced) or not replaced]
    wanted = [name for name in wanted if not name.endswith((COUNTER, "_extra_state"))]
    missing = [name for name in wanted if name not in adapted]
    if missing:
        check_prefix(wanted, state, path, key)
    shaped = [name for name in wanted if name in adapted and adapted[name].shape != own[name].shape]
    if missing:
        raise UserError(
            f"{key}={path} lacks {len(missing)} of the {len(wanted)} weights of the network (the"
            f" first is {missing[0]}, and the file has {_first_names(state)}); name the weights of"
            " the same architecture"
        )
    if shaped:
        theirs, ours = tuple(adapted[shaped[0]].shape), tuple(own[shaped[0]].shape)
        raise UserError(
            f"{key}={path} belongs to a network of another size: {shaped[0]} is {theirs} there and"
            f" {ours} here ({len(shaped)} differ); name the weights of the same architecture and"
            " image size"
        )
    check_not_larger(own, state, path, key)
    fits = {
        name: value
        for name, value in adapted.items()
        if name in own and own[name].shape == value.shape
    }
    return dict(own) | {name: value.to(own[name].dtype) for name, value in fits.items()}


def _first_names(state: Mapping[str, Tensor]) -> str:
    names = list(state)[:2]
    return ", ".join(names) + (", ..." if len(state) > len(names) else "")


def _adapt_input(weight: Tensor, own: Tensor) -> Tensor:
    """Adapt the weights of a first convolution to the channels of the images."""
    other = weight.ndim == own.ndim == 4 and weight.shape[1] != own.shape[1]
    if not other or weight.shape[1] != 3 or weight.shape[0] != own.shape[0]:
        return weight
    from timm.models import adapt_input_conv

    return adapt_input_conv(own.shape[1], weight)


@contextmanager
def without_timm_warnings() -> Iterator[None]:
    """Silence timm, which warns of layers that an encoder does not have, and how it resamples."""
    with quiet_logger("timm.models._builder"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def block_of(name: str) -> str:
    """Return the beginning of a parameter's name that names its block, such as `layer1.0.`.

    It ends with the number of a stage and of a block in it; empty if the name has no such number.
    """
    parts, numbers, inside = name.split(".")[:-1], 0, False
    for position, part in enumerate(parts):
        container = CONTAINER.fullmatch(part)
        if container is not None or (inside and part.isdecimal()):
            inside = True
            numbers += part.isdecimal() or bool(container and container[1])
        elif numbers:
            return _join(parts[:position])
        else:
            inside = False
        if numbers == LEVELS:
            return _join(parts[: position + 1])
    return _join(parts) if numbers else ""


def _join(parts: list[str]) -> str:
    while not parts[-1][-1].isdecimal():  # a container whose number does not follow
        parts = parts[:-1]
    return ".".join(parts) + "."


def check_not_larger(own: Iterable[str], state: Iterable[str], path: Path, key: str) -> None:
    """Refuse weights with blocks that the network lacks: those of a larger one would fit in part.

    Raises:
        UserError: The file has more blocks.
    """
    ours, theirs = ({block_of(name) for name in names} - {""} for names in (own, state))
    more = sorted(theirs - ours)
    if more and theirs & ours:
        raise UserError(
            f"{key}={path} belongs to a larger network: it has {len(more)} blocks that this one"
            f" lacks (the first is {more[0].rstrip('.')}); name the weights of the same"
            " architecture"
        )


def check_loaded(
    net: nn.Module, state: Mapping[str, Tensor], path: Path, key: str, replaced: tuple[str, ...]
) -> None:
    """Refuse a network whose library left weights at their random initial values.

    Libraries rename and resample weights, so that each tensor of the network is looked for among
    those of the file by its values. Tensors that are resampled to another size are found by their
    name, or by their number of dimensions if they are renamed too.

    Args:
        net: Network after the library loaded the weights.
        state: The weights of the file.
        path: Their file, for messages.
        key: Configuration key, for messages.
        replaced: Beginnings of names of layers that may differ, such as the head's.

    Raises:
        UserError: A weight is not from the file.
    """
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for value in state.values():
        by_shape.setdefault(value.shape, []).append(value)
    resampled = [name for name in state if name.endswith(RESAMPLED)]
    missing = []
    # the channels of the first convolution are adapted to the images
    first = next((name for name, value in net.named_parameters() if value.ndim == 4), None)
    for name, value in net.state_dict().items():
        if (
            name.endswith((COUNTER, "_extra_state", "relative_position_index", "attn_mask"))
            or (replaced and name.startswith(replaced))
            or (name.endswith(RESAMPLED) and resampled)
            or (value.ndim == 4 and value.shape[1] != 3 and name == first)
        ):
            continue
        if not any(torch.equal(value, each) for each in by_shape.get(value.shape, ())):
            missing.append(name)
    if missing:
        raise UserError(
            f"{key}={path} lacks {len(missing)} of the network's weights (the first is"
            f" {missing[0]}); name the weights of the same architecture"
        )


# names of weights that depend on the image size, which timm resamples
RESAMPLED = ("pos_embed", "relative_position_bias_table", "rel_pos_h", "rel_pos_w", "rel_pos")
