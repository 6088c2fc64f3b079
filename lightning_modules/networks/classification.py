"""Classifiers of timm and torchvision, by name.

A network that is in neither library gets a file of its own next to this one.
"""

from typing import Annotated, Any, Literal

from torch import nn

from datamodules.arguments import FromMapping, ImageSizeArgument, PositiveInt, validated
from datamodules.errors import UserError
from lightning_modules.networks.input_size import (
    timm_size_arguments,
    torchvision_size_arguments,
)
from lightning_modules.normalize import PixelStatistics
from lightning_modules.pretrained.encoder_config import BUILT_BY_WEIGHTS, EncoderConfig
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
    check_classifier_name,
    classifier_request,
)
from lightning_modules.pretrained.resolver import ResolvedWeights, resolve

AUXILIARY_HEADS = ("aux1", "aux2", "AuxLogits")


@validated
def build_classifier(
    library: Literal["timm", "torchvision"],
    encoder: Annotated[EncoderConfig, FromMapping()],
    classes: PositiveInt = 1,
    in_channels: PositiveInt = 1,
    image_size: ImageSizeArgument | None = None,
    **architecture_arguments: Any,
) -> nn.Module:
    """Build a classifier of timm or torchvision by name; its logits are `B x classes`.

    With pretrained weights, its attribute `pretrained` says where they came from; `statistics`
    holds the mean and std that they expect, if these are known.

    Args:
        library: `timm` or `torchvision`.
        encoder: Name of the network in that library, and its weights (of any head).
        classes: Number of classes and logits.
        in_channels: 1 for gray images; pretrained weights of three channels are then summed.
        image_size: Size of the images, for networks that are built for one size (with windows or
            position embeddings); None uses the architecture's own. timm resamples their weights.
        **architecture_arguments: Arguments of the architecture.

    Raises:
        UserError: The name is unknown, or the weights cannot be had or do not fit.
    """
    name = encoder.name
    check_classifier_name(library, name)
    request = classifier_request(library, encoder)
    found = None if request is None else resolve(request)
    if library == "timm":
        architecture_arguments |= timm_size_arguments(name, image_size, architecture_arguments)
    elif found is None or found.origin == "file":  # its published weights have one size
        architecture_arguments |= torchvision_size_arguments(
            name, image_size, architecture_arguments
        )
    build = _build_timm if library == "timm" else _build_torchvision
    try:
        net = build(name, classes, in_channels, architecture_arguments, found)
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{library} cannot build '{name}' ({str(error)[:160]}); correct the keys of module.net"
        ) from error
    if found is not None:
        net.pretrained = found  # type: ignore[assignment]
        if found.is_published:
            net.statistics = _classifier_statistics(net, library, name, in_channels)  # type: ignore[assignment]
    return net


def _build_timm(
    architecture: str,
    classes: int,
    in_channels: int,
    architecture_arguments: dict[str, Any],
    weights: ResolvedWeights | None,
) -> nn.Module:
    from lightning_modules.library_imports import timm

    def create(**more: Any) -> nn.Module:
        return timm.create_model(
            architecture,
            num_classes=classes,
            in_chans=in_channels,
            **architecture_arguments,
            **more,
        )

    net = create()
    head = find_head(net)[0]
    # EfficientNets initialize the rows of a small head up to 1 / sqrt(classes)
    find_head(net)[1].reset_parameters()  # type: ignore[operator]
    if weights is None:
        return net
    own = net.state_dict()
    state = rename_efficientnet(read_weights(weights.path, WEIGHTS_KEY), own)
    check_prefix(own, state, weights.path, WEIGHTS_KEY)
    check_not_larger(own, state, weights.path, WEIGHTS_KEY)
    replaced = (f"{head}.",)
    try:
        net.load_state_dict(match_state(own, state, weights.path, WEIGHTS_KEY, replaced))
    except UserError as refusal:  # timm renames older weights, and resamples those of another size
        initial = {name: value for name, value in own.items() if name.startswith(replaced)}
        try:
            with without_timm_warnings():
                net = create(pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)})
            check_loaded(net, state, weights.path, WEIGHTS_KEY, replaced)
        except (UserError, RuntimeError, KeyError, ValueError):
            raise refusal from None
        net.load_state_dict(initial, strict=False)
    return net


def _build_torchvision(
    architecture: str,
    classes: int,
    in_channels: int,
    architecture_arguments: dict[str, Any],
    weights: ResolvedWeights | None,
) -> nn.Module:
    from torchvision.models import get_model

    converts = architecture in BUILT_BY_WEIGHTS and weights is not None
    if converts:
        architecture_arguments = {"transform_input": in_channels == 3} | architecture_arguments
    net = get_model(architecture, weights=None, **architecture_arguments)
    name, head = find_head(net)
    _replace_layer(net, name, nn.Linear(head.in_features, classes))  # type: ignore[arg-type]
    first, stem = next(
        (name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)
    )
    if in_channels != stem.in_channels:
        fresh = nn.Conv2d(
            in_channels,
            stem.out_channels,
            stem.kernel_size,  # type: ignore[arg-type]
            stem.stride,  # type: ignore[arg-type]
            stem.padding,  # type: ignore[arg-type]
            bias=stem.bias is not None,
        )
        state = {
            "weight": (
                stem.weight.detach().sum(1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels
            )
        }
        fresh.load_state_dict(
            state | ({"bias": stem.bias.detach()} if stem.bias is not None else {})
        )
        _replace_layer(net, first, fresh)
    if weights is not None:
        state = read_weights(weights.path, WEIGHTS_KEY)
        replaced = (f"{name}.", *(f"{each}." for each in AUXILIARY_HEADS))
        own = net.state_dict()
        net.load_state_dict(match_state(own, state, weights.path, WEIGHTS_KEY, replaced))
    if converts and "aux_logits" not in architecture_arguments:
        net.aux_logits = False  # as torchvision does with its weights
        for each in AUXILIARY_HEADS:
            if hasattr(net, each):
                setattr(net, each, None)
    return net


def _classifier_statistics(
    net: nn.Module, library: str, architecture: str, in_channels: int
) -> PixelStatistics:
    """Return mean and std that the published weights expect, as stated by the library."""
    source = f"ImageNet weights of {architecture}"
    if library == "timm":
        stated: Any = net.pretrained_cfg
        return PixelStatistics.from_weights(stated["mean"], stated["std"], source, in_channels)
    from torchvision.models import get_model_weights

    transforms: Any = get_model_weights(architecture).DEFAULT.transforms()  # type: ignore[attr-defined]
    if not hasattr(transforms, "mean"):
        return PixelStatistics.unusable(
            source, f"torchvision states no mean and std of the {source}"
        )
    return PixelStatistics.from_weights(transforms.mean, transforms.std, source, in_channels)


def find_head(net: nn.Module) -> tuple[str, nn.Module]:
    """Return name and layer of the head: timm's classifier, else the last Linear."""
    named: Any = getattr(net, "get_classifier", lambda: None)()
    for name, layer in reversed(list(net.named_modules())):
        if isinstance(layer, nn.Module) and (
            layer is named or (named is None and isinstance(layer, nn.Linear))
        ):
            return name, layer
    raise UserError(
        f"{type(net).__name__} has no linear head, so it is not a classifier; set another"
        f" module.net"
    )


def is_classifier(net: nn.Module) -> bool:
    """Return True for a classifier of timm or torchvision, also one with a frozen backbone."""
    module = type(net).__module__
    dense = ("torchvision.models.segmentation", "torchvision.models.detection")
    torchvision = module.startswith("torchvision.models.") and not module.startswith(dense)
    wrapped = getattr(net, "net", None)
    return (
        torchvision
        or (module.startswith("timm.") and hasattr(net, "get_classifier"))
        or (isinstance(wrapped, nn.Module) and is_classifier(wrapped))
    )


def _replace_layer(net: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, layer)
