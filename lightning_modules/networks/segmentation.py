"""Segmentation networks of segmentation-models-pytorch, by name.

A network that is not in that library gets a file of its own next to this one; see `upernet.py`.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from datamodules.arguments import (
    Fraction,
    ImageSizeArgument,
    PositiveInt,
    check_value,
    validated,
)
from datamodules.errors import UserError
from lightning_modules.networks.input_size import timm_size_arguments
from lightning_modules.networks.library_imports import smp
from lightning_modules.networks.pretrained import download_error, is_hub_error, read_state_dict
from lightning_modules.normalize import PixelStatistics

ARGUMENT_TYPES = {  # arguments of the library's networks, which check few of them
    "classes": PositiveInt,
    "in_channels": PositiveInt,
    "encoder_depth": Annotated[int, Field(ge=3, le=5)],
    "encoder_output_stride": Literal[8, 16],
    "upsampling": PositiveInt,
    "decoder_channels": PositiveInt | Sequence[PositiveInt],
    "decoder_attention_type": Literal["scse"] | None,
    "decoder_interpolation": Literal["nearest", "bilinear", "bicubic", "area", "nearest-exact"],
    "decoder_merge_policy": Literal["add", "cat"],
    "decoder_dropout": Fraction,
    "decoder_atrous_rates": Sequence[PositiveInt],
    "decoder_aspp_separable": bool,
    "decoder_aspp_dropout": Fraction,
    "decoder_pyramid_channels": PositiveInt,
    "decoder_segmentation_channels": PositiveInt,
    "psp_out_channels": PositiveInt,
    "psp_dropout": Fraction,
}


@validated
def build_smp_network(
    architecture: str,
    encoder_name: str,
    encoder_weights: str | None = "imagenet",
    image_size: ImageSizeArgument | None = None,
    **architecture_arguments: Any,
) -> nn.Module:
    """Build a network of segmentation-models-pytorch by name.

    With downloaded weights, its attribute `statistics` holds the mean and std that the encoder
    expects.

    Args:
        architecture: `UnetPlusPlus`, `Unet`, `FPN`, ...
        encoder_name: Name in smp, such as `resnet34`.
        encoder_weights: Name in smp (downloaded from the hub), a local file with the encoder's
            state_dict, or None to start from scratch.
        image_size: Size of the images, for encoders of timm (`tu-...`) that are built for one size
            (with windows or position embeddings); None uses the encoder's own.
        **architecture_arguments: Arguments of the architecture.

    Raises:
        UserError: A name is unknown, an argument belongs to another architecture, logits would not
            have the image's size, or weights cannot be downloaded or read.
    """
    _check_arguments(architecture, encoder_name, architecture_arguments)
    if encoder_name.startswith("tu-"):
        architecture_arguments |= timm_size_arguments(
            encoder_name.removeprefix("tu-"), image_size, architecture_arguments
        )
    local = encoder_weights is not None and (
        "/" in encoder_weights or Path(encoder_weights).exists()
    )
    arguments = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in architecture_arguments.items()
    }
    try:
        net = getattr(smp, architecture)(
            encoder_name=encoder_name,
            encoder_weights=None if local else encoder_weights,
            **arguments,
        )
    except (OSError, KeyError, RuntimeError, ImportError) as error:
        if encoder_weights is None or local:
            raise _build_error(architecture, error, "correct module.net.encoder_name") from error
        raise download_error(
            "module.net.encoder_weights", encoder_weights, encoder_name, error
        ) from error
    except Exception as error:  # the hub client raises its own network errors
        if encoder_weights is not None and is_hub_error(error):
            raise download_error(
                "module.net.encoder_weights", encoder_weights, encoder_name, error
            ) from error
        if not isinstance(error, TypeError | ValueError | AssertionError):
            raise
        raise _build_error(architecture, error, "correct the keys of module.net") from error
    if local:
        _load_encoder(
            net.encoder, Path(str(encoder_weights)), architecture_arguments.get("in_channels", 3)
        )
    elif encoder_weights is not None:
        net.statistics = _encoder_statistics(
            net.encoder, encoder_name, encoder_weights, architecture_arguments.get("in_channels", 3)
        )
    if architecture_arguments.get("encoder_depth", 5) < 5:
        _freeze_unused_parameters(net, architecture_arguments.get("in_channels", 3))
    return net


def _encoder_statistics(encoder: Any, name: str, weights: str, in_channels: int) -> PixelStatistics:
    """Return mean and std that the encoder's downloaded weights expect, as stated by the library.

    An encoder that wraps a timm model has the model's own configuration, also for the old `timm-`
    names, which smp's function does not find.
    """
    source = (
        f"ImageNet weights of {name}" if weights == "imagenet" else f"weights '{weights}' of {name}"
    )
    stated = getattr(getattr(encoder, "model", None), "pretrained_cfg", None)
    if stated:
        return PixelStatistics.from_weights(stated["mean"], stated["std"], source, in_channels)
    try:
        params = smp.encoders.get_preprocessing_params(
            name, pretrained=weights
        )  # a small file that smp downloaded with the weights
    except Exception as error:
        if not (
            is_hub_error(error) or isinstance(error, OSError | ValueError | KeyError | TypeError)
        ):
            raise
        return PixelStatistics.unusable(
            source, f"smp does not state the mean and std of the {source} ({str(error)[:120]})"
        )
    return PixelStatistics.from_weights(
        params["mean"],
        params["std"],
        source,
        in_channels,
        params["input_range"],
        params["input_space"],
    )


def _freeze_unused_parameters(net: nn.Module, in_channels: int) -> None:
    """Freeze the last stages of an encoder with reduced depth, on which no logit depends.

    DDP would wait for their gradients.
    """
    net.eval()(torch.zeros(1, in_channels, 64, 64)).sum().backward()
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    net.train()


def _check_arguments(architecture: str, encoder_name: str, arguments: dict[str, Any]) -> None:
    """Refuse an unknown architecture, and arguments that the library would silently accept.

    A network's class accepts any key and passes it to the encoder, which usually ignores it.
    """
    net = getattr(smp, architecture, None)
    if not (inspect.isclass(net) and issubclass(net, nn.Module)):
        raise UserError(
            f"module.net.architecture={architecture} is not in segmentation_models_pytorch; try"
            " UnetPlusPlus, Unet, FPN or DeepLabV3Plus"
        )
    for name, annotation in ARGUMENT_TYPES.items():
        if name in arguments:
            check_value(name, arguments[name], annotation)
    known = {
        name: each.default
        for name, each in inspect.signature(net).parameters.items()
        if each.kind != each.VAR_KEYWORD
    }
    unknown = sorted(arguments.keys() - known.keys())
    if unknown and not encoder_name.startswith("tu-"):  # encoders of timm accept more arguments
        raise UserError(
            f"module.net: {architecture} does not accept {', '.join(unknown)}; remove"
            f" {_pronoun(unknown)}, it accepts {', '.join(known)}"
        )
    depth, upsampling = ((known | arguments).get(name) for name in ("encoder_depth", "upsampling"))
    if not isinstance(depth, int) or upsampling is None:
        return  # the library raises its own error
    coarseness = {"PSPNet": 2**depth, "FPN": 2 ** max(0, depth - 3), "DeepLabV3Plus": 4}.get(
        architecture, upsampling
    )  # image pixels per logit before upsampling
    if upsampling != coarseness:
        raise UserError(
            f"module.net.upsampling={upsampling} gives logits of another size than the image; set"
            f" module.net.upsampling={coarseness}"
        )


def _pronoun(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"


def _build_error(architecture: str, error: Exception, hint: str) -> UserError:
    reason = " ".join(str(error).split()).rstrip(".")[:160]
    return UserError(f"module.net: {architecture} cannot be built ({reason}); {hint}")


def _load_encoder(encoder: nn.Module, path: Path, in_channels: int) -> None:
    state = read_state_dict(path, "module.net.encoder_weights", in_channels, encoder)
    missing = sorted(encoder.state_dict().keys() - state.keys())
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of the encoder's weights (the first is {missing[0]});"
            " name the weights of the same encoder"
        )
    encoder.load_state_dict(
        {name: weight for name, weight in state.items() if name in encoder.state_dict()}
    )
