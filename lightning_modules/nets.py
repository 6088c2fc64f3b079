"""Networks whose pretrained weights may have to be fetched, with a clear word when they cannot be."""

import pickle
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn

from datamodules.refusal import Refusal


def smp_net(architecture: str, encoder_name: str, encoder_weights: str | None = "imagenet", **architecture_arguments: Any) -> nn.Module:
    """A network of segmentation-models-pytorch, by name.

    Args:
        architecture: `UnetPlusPlus`, `Unet`, `FPN`, ...
        encoder_name: As in smp, `resnet34` for one.
        encoder_weights: A name that smp knows (fetched from the hub), a local file with the encoder's state_dict, or None
            to start from scratch.
        **architecture_arguments: The architecture's own.

    Raises:
        Refusal: the weights cannot be fetched or read.
    """
    if not hasattr(smp, architecture):
        raise Refusal(f"module.net.architecture={architecture} is not in segmentation_models_pytorch; try UnetPlusPlus, Unet, FPN or DeepLabV3Plus")
    local = encoder_weights is not None and ("/" in encoder_weights or Path(encoder_weights).exists())
    arguments = {name: list(value) if isinstance(value, tuple) else value for name, value in architecture_arguments.items()}
    try:
        net = getattr(smp, architecture)(encoder_name=encoder_name, encoder_weights=None if local else encoder_weights, **arguments)
    except (OSError, KeyError, RuntimeError, ImportError) as error:
        if encoder_weights is None or local:
            raise Refusal(f"module.net cannot be built ({str(error).splitlines()[0][:160]}); correct module.net.encoder_name") from error
        raise _not_fetched(encoder_name, encoder_weights, error) from error
    except Exception as error:  # the hub client has its own family of network errors
        if type(error).__module__.split(".")[0] in {"huggingface_hub", "httpx", "httpcore", "requests", "urllib3"}:
            raise _not_fetched(encoder_name, encoder_weights, error) from error
        raise
    if local:
        _load_encoder(net.encoder, Path(str(encoder_weights)), architecture_arguments.get("in_channels", 3))
    return net


def _not_fetched(encoder_name: str, encoder_weights: str | None, error: Exception) -> Refusal:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return Refusal(
        f"the weights '{encoder_weights}' of {encoder_name} cannot be fetched ({reason}); start from scratch with "
        "module.net.encoder_weights=null, or name a local file with module.net.encoder_weights=PATH/encoder.pt"
    )


def _load_encoder(encoder: nn.Module, path: Path, in_channels: int) -> None:
    if not path.is_file():
        raise Refusal(f"module.net.encoder_weights={path} is not a file; name the encoder's state_dict, or start from scratch with null")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Refusal(f"module.net.encoder_weights={path} cannot be read as weights; name a state_dict saved by torch.save") from error
    state = state.get("state_dict", state)
    for name, weight in state.items():
        own = encoder.state_dict().get(name)
        if own is not None and weight.ndim == 4 and weight.shape[1] == 3 and own.shape[1] == in_channels == 1:
            state[name] = weight.sum(1, keepdim=True)  # a grey image is the same in all three channels
    missing = sorted(encoder.state_dict().keys() - state.keys())
    if missing:
        raise Refusal(f"{path} lacks {len(missing)} of the encoder's weights (the first is {missing[0]}); name the weights of the same encoder")
    encoder.load_state_dict({name: weight for name, weight in state.items() if name in encoder.state_dict()})
