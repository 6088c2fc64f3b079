"""Segmentation networks of segmentation-models-pytorch, by name.

A network that is not in that library gets a file of its own next to this one; see `upernet.py`.
"""

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from datamodules.arguments import (
    Fraction,
    FromMapping,
    ImageSizeArgument,
    PositiveInt,
    check_value,
    validated,
)
from datamodules.errors import UserError
from lightning_modules.library_imports import smp
from lightning_modules.networks.input_size import timm_size_arguments
from lightning_modules.networks.lora_config import AdapterConfig
from lightning_modules.normalize import PixelStatistics
from lightning_modules.pretrained.encoder_config import EncoderConfig
from lightning_modules.pretrained.reading import (
    check_loaded,
    check_not_larger,
    check_prefix,
    match_state,
    read_weights,
    rename_efficientnet,
    without_timm_warnings,
)
from lightning_modules.pretrained.requests import (
    WEIGHTS_KEY,
    check_encoder_name,
    encoder_name,
    encoder_request,
)
from lightning_modules.pretrained.resolver import ResolvedWeights, resolve

UNFIT_ENCODERS = {  # part of an error of the library -> why the encoder does not fit the network
    "is not support": "which this network does not support",
    "output_stride": "whose stages cannot be dilated as this network needs",
    "downsampling pattern": "whose stages do not halve the image one after another",
}
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
    encoder: Annotated[EncoderConfig, FromMapping()],
    image_size: ImageSizeArgument | None = None,
    lora: Annotated[AdapterConfig, FromMapping()] | None = None,
    **architecture_arguments: Any,
) -> nn.Module:
    """Build a network of segmentation-models-pytorch by name.

    With pretrained weights of the encoder, its attribute `pretrained` says where they came from;
    `statistics` holds the mean and std that they expect, if these are known.

    Args:
        architecture: `UnetPlusPlus`, `Unet`, `FPN`, ...
        encoder: Name of the encoder in smp or timm, and its weights.
        image_size: Size of the images, for encoders of timm that are built for one size (with
            windows or position embeddings); None uses the encoder's own.
        lora: Adapters of the encoder, whose other weights are frozen, or their settings as a
            mapping; None trains the whole network.
        **architecture_arguments: Arguments of the architecture.

    Raises:
        UserError: A name is unknown, an argument belongs to another architecture, logits would not
            have the image's size, or weights cannot be had or do not fit.
    """
    check_encoder_name(encoder.name)
    name = encoder_name(encoder.name)
    _check_arguments(architecture, name, architecture_arguments)
    if name.startswith("tu-"):
        architecture_arguments |= timm_size_arguments(
            name.removeprefix("tu-"), image_size, architecture_arguments
        )
    request = encoder_request(encoder)
    found = None if request is None else resolve(request)
    state = None if found is None else read_weights(found.path, WEIGHTS_KEY)
    arguments = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in architecture_arguments.items()
    }
    try:
        net = _build(architecture, name, arguments, state, found)
    except UserError:
        raise
    except (ValueError, TypeError, AssertionError, RuntimeError, KeyError) as error:
        reason = next((why for sign, why in UNFIT_ENCODERS.items() if sign in str(error)), None)
        if reason is not None:
            raise UserError(
                f"module.net: {architecture} does not work with the encoder {encoder.name},"
                f" {reason}; take another encoder, such as module/net/encoder=lite0, or another"
                " network, such as module/net=unet"
            ) from error
        hint = (
            "module.net.encoder.name"
            if isinstance(error, KeyError | RuntimeError)
            else "the keys of module.net"
        )
        raise _build_error(architecture, error, f"correct {hint}") from error
    except (OSError, ImportError) as error:
        raise _build_error(architecture, error, "correct module.net.encoder.name") from error
    in_channels = architecture_arguments.get("in_channels", 3)
    if found is not None:
        net.pretrained = found  # type: ignore[assignment]
        if found.is_published:
            statistics = _encoder_statistics(net.encoder, name, found, in_channels)
            net.statistics = statistics  # type: ignore[assignment]
    if architecture_arguments.get("encoder_depth", 5) < 5:
        _freeze_unused_parameters(net, in_channels)
    if lora is not None:
        from lightning_modules.networks.lora import adapt_encoder  # peft takes a second

        adapt_encoder(net, lora)
    return net


def _build(
    architecture: str,
    name: str,
    arguments: dict[str, Any],
    state: dict[str, Tensor] | None,
    weights: ResolvedWeights | None,
) -> nn.Module:
    """Build the network with an encoder that has the weights of `state`."""

    def create(**more: Any) -> nn.Module:
        pretrained = True if more else None
        return getattr(smp, architecture)(
            encoder_name=name, encoder_weights=pretrained, **arguments, **more
        )

    net = create()
    if state is None or weights is None:
        return net
    encoder: Any = net.encoder
    own = encoder.state_dict()
    if name.startswith("tu-"):
        check_prefix(own, state, weights.path, WEIGHTS_KEY)
        of_timm = {key: value for key, value in state.items() if not key.startswith("model.")}
        if of_timm:
            return _load_timm_encoder(net, create, name.removeprefix("tu-"), of_timm, weights)
    encoder.load_state_dict(match_state(own, state, weights.path, WEIGHTS_KEY))
    return net


def _load_timm_encoder(
    net: nn.Module,
    create: Callable[..., nn.Module],
    name: str,
    state: dict[str, Tensor],
    weights: ResolvedWeights,
) -> nn.Module:
    """Build a network whose encoder has the weights of a whole classifier of timm.

    timm takes the layers that the encoder has, and resamples and renames weights.

    Args:
        net: The network from scratch.
        create: Function that builds it with further arguments.
        name: Name of the classifier in timm.
        state: Its weights.
        weights: Their origin.
    """
    from lightning_modules.library_imports import timm

    with torch.device("meta"):
        whole = timm.create_model(name).state_dict()
    state = rename_efficientnet(state, whole)
    check_prefix(whole, state, weights.path, WEIGHTS_KEY)
    check_not_larger(whole, state, weights.path, WEIGHTS_KEY)
    try:
        with without_timm_warnings():
            loaded = create(pretrained_cfg_overlay={"state_dict": dict(state)})
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{WEIGHTS_KEY}={weights.path} does not fit {name} ({reason}); name the weights of the"
            " same architecture"
        ) from error
    check_loaded(loaded.encoder, state, weights.path, WEIGHTS_KEY, ())  # type: ignore[arg-type]
    return loaded


def _encoder_statistics(
    encoder: Any, name: str, weights: ResolvedWeights, in_channels: int
) -> PixelStatistics | None:
    """Return mean and std that the encoder's published weights expect, as stated by the library.

    An encoder that wraps a timm model has the model's own configuration, also for the old `timm-`
    names. For the others a small file lies beside the weights (config.json).
    """
    asked, name = weights.asked, name.removeprefix("tu-")
    source = (
        f"ImageNet weights of {name}"
        if asked in ("imagenet", "auto")
        else f"weights '{asked}' of {name}"
    )
    stated = getattr(getattr(encoder, "model", None), "pretrained_cfg", None)
    if stated:
        return PixelStatistics.from_weights(stated["mean"], stated["std"], source, in_channels)
    config = weights.files.get("config.json")
    if config is None:
        return None
    try:
        params = json.loads(config.read_text(encoding="utf-8"))
        mean, std = params["mean"], params["std"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return PixelStatistics.unusable(
            source, f"smp does not state the mean and std of the {source} ({str(error)[:120]})"
        )
    return PixelStatistics.from_weights(
        mean,
        std,
        source,
        in_channels,
        params.get("input_range", [0, 1]),
        params.get("input_space", "RGB"),
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
