"""Pretrained weights from a local file, and the error for weights that cannot be downloaded."""

import pickle
from pathlib import Path

import torch
from torch import nn

from datamodules.errors import UserError

HUB_PACKAGES = {
    "huggingface_hub",
    "httpx",
    "httpcore",
    "requests",
    "urllib3",
}  # packages whose errors mean that weights cannot be downloaded


def is_hub_error(error: Exception) -> bool:
    """Return True if the error comes from a client that downloads weights."""
    return type(error).__module__.split(".")[0] in HUB_PACKAGES


def download_error(
    key: str, weights: str, network: str, error: Exception, local_kind: str = "file"
) -> UserError:
    """Make the error for weights that cannot be downloaded.

    Args:
        key: Configuration key of the weights.
        weights: Value of the key.
        network: Name of the network.
        error: Error that the library raised.
        local_kind: Description of what a local path may name.
    """
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return UserError(
        f"the weights '{weights}' of {network} cannot be fetched ({reason}); start from scratch"
        f" with {key}=null, or name a local {local_kind} with {key}=PATH"
    )


def read_state_dict(
    path: Path, key: str, in_channels: int, net: nn.Module
) -> dict[str, torch.Tensor]:
    """Read a state_dict; weights of a color input are summed if the network's input is gray."""
    if not path.is_file():
        raise UserError(
            f"{key}={path} is not a file; name a file with a state_dict, or start from scratch with"
            " null"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{key}={path} cannot be read as weights; name a state_dict saved by torch.save"
        ) from error
    state = state.get("state_dict", state)
    of_net = net.state_dict()
    for name, weight in state.items():
        own = of_net.get(name)
        if (
            own is not None
            and weight.ndim == 4
            and weight.shape[1] == 3
            and own.shape[1] == in_channels == 1
        ):
            state[name] = weight.sum(
                1, keepdim=True
            )  # a gray image is the same in all three channels
    return state
