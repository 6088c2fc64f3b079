"""Classifiers of timm and torchvision, by name.

A network that is in neither library gets a file of its own next to this one.
"""

import difflib
from pathlib import Path
from typing import Any, Literal

from torch import nn

from datamodules.arguments import ImageSizeArgument, PositiveInt, validated
from datamodules.errors import UserError
from lightning_modules.networks.input_size import (
    timm_size_arguments,
    torchvision_size_arguments,
)
from lightning_modules.networks.pretrained import download_error, is_hub_error, read_state_dict
from lightning_modules.normalize import PixelStatistics


@validated
def build_classifier(
    library: Literal["timm", "torchvision"],
    architecture: str,
    weights: str | None = "imagenet",
    classes: PositiveInt = 1,
    in_channels: PositiveInt = 1,
    image_size: ImageSizeArgument | None = None,
    key: str = "module.net.weights",
    **architecture_arguments: Any,
) -> nn.Module:
    """Build a classifier of timm or torchvision by name; its logits are `B x classes`.

    With downloaded weights, its attribute `statistics` holds the mean and std that they expect.

    Args:
        library: `timm` or `torchvision`.
        architecture: Name in that library.
        weights: `imagenet` (downloaded), a local file with the network's state_dict (of any head),
            or None for scratch.
        classes: Number of classes and logits.
        in_channels: 1 for gray images; pretrained weights of three channels are then summed.
        image_size: Size of the images, for networks that are built for one size (with windows or
            position embeddings); None uses the architecture's own.
        key: Configuration key of `weights`, for error messages.
        **architecture_arguments: Arguments of the architecture.

    Raises:
        UserError: The name is unknown, or the weights cannot be downloaded or read.
    """
    fetch = weights == "imagenet"
    if library == "timm" and _is_timm_model(architecture):
        architecture_arguments |= timm_size_arguments(
            architecture, image_size, architecture_arguments
        )
    elif library == "torchvision" and not fetch:  # its pretrained weights have one size
        architecture_arguments |= torchvision_size_arguments(
            architecture, image_size, architecture_arguments
        )
    net = _build_classifier(
        library, architecture, fetch, classes, in_channels, architecture_arguments, key
    )
    # EfficientNets initialize the rows of a small head up to 1 / sqrt(classes)
    find_head(net)[1].reset_parameters()  # type: ignore[operator]
    if fetch:
        net.statistics = _classifier_statistics(net, library, architecture, in_channels)  # type: ignore[assignment]
    if weights is not None and not fetch:
        _load_backbone(net, Path(weights), key, in_channels)
    return net


def _build_classifier(
    library: str,
    architecture: str,
    pretrained: bool,
    classes: int,
    in_channels: int,
    architecture_arguments: dict[str, Any],
    key: str,
) -> nn.Module:
    makers = {"timm": _build_timm, "torchvision": _build_torchvision}
    try:
        return makers[library](
            architecture, pretrained, classes, in_channels, architecture_arguments
        )
    except UserError:
        raise
    except Exception as error:
        known = isinstance(error, OSError | RuntimeError | ValueError | KeyError | TypeError)
        if is_hub_error(error) or (known and pretrained and not isinstance(error, TypeError)):
            raise download_error(key, "imagenet", architecture, error) from error
        if not known:
            raise
        raise UserError(
            f"{library} cannot build '{architecture}' ({str(error)[:160]}); correct the keys of"
            " module.net"
        ) from error


def _build_timm(
    architecture: str,
    pretrained: bool,
    classes: int,
    in_channels: int,
    architecture_arguments: dict[str, Any],
) -> nn.Module:
    from lightning_modules.networks.library_imports import timm

    if not _is_timm_model(architecture):
        raise _unknown_architecture_error("timm", architecture, timm.list_models())
    return timm.create_model(
        architecture,
        pretrained=pretrained,
        num_classes=classes,
        in_chans=in_channels,
        **architecture_arguments,
    )


def _is_timm_model(architecture: str) -> bool:
    from lightning_modules.networks.library_imports import timm

    return bool(timm.is_model(architecture.split(".")[0]))


def _build_torchvision(
    architecture: str,
    pretrained: bool,
    classes: int,
    in_channels: int,
    architecture_arguments: dict[str, Any],
) -> nn.Module:
    from torchvision.models import get_model, list_models

    if architecture not in list_models():
        raise _unknown_architecture_error("torchvision", architecture, list_models())
    net = get_model(
        architecture, weights="DEFAULT" if pretrained else None, **architecture_arguments
    )
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
    return net


def _classifier_statistics(
    net: nn.Module, library: str, architecture: str, in_channels: int
) -> PixelStatistics:
    """Return mean and std that the downloaded weights expect, as stated by the library."""
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


def _unknown_architecture_error(library: str, architecture: str, available: list[str]) -> UserError:
    near = difflib.get_close_matches(architecture, available, n=3, cutoff=0.4)
    return UserError(
        f"{library} has no network '{architecture}'; choose"
        f" {' or '.join(near) or 'one of its list_models()'}"
    )


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


def _replace_layer(net: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, layer)


def _load_backbone(net: nn.Module, path: Path, key: str, in_channels: int) -> None:
    """Load all weights except a head of another size."""
    state, own = read_state_dict(path, key, in_channels, net), net.state_dict()
    head = find_head(net)[0]
    missing = [
        name
        for name in own
        if not name.startswith(f"{head}.")
        and (name not in state or state[name].shape != own[name].shape)
    ]
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of the network's weights (the first is {missing[0]});"
            " name the weights of the same architecture"
        )
    net.load_state_dict(
        own
        | {
            name: value
            for name, value in state.items()
            if name in own and value.shape == own[name].shape
        }
    )
