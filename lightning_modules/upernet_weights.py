"""Pretrained weights of a UPerNet or a Swin for a UPerNet of any number of classes and channels.

They come from the hub or from a local folder.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from datamodules.refusal import UserError
from lightning_modules.normalize import Statistics
from lightning_modules.pretrained import download_error, is_hub_error

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SHAPE = (
    "patch_size",
    "embed_dim",
    "depths",
    "num_heads",
    "window_size",
    "mlp_ratio",
)  # what weights of another network differ in
PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
)  # files of a folder that state its mean and std


def load_upernet_weights(net: nn.Module, weights: str) -> Statistics | None:
    """Load weights of a whole UPerNet, or of a Swin alone, into a UperNetForSemanticSegmentation.

    Args:
        net: What is filled.
        weights: A name on the hub, or a local folder.

    Returns:
        Mean and std that the weights expect; None where a local folder does not state them.

    Raises:
        Refusal: they cannot be fetched or read, or are of another shape.
    """
    from transformers import AutoConfig, SwinBackbone, UperNetForSemanticSegmentation

    try:
        config = AutoConfig.from_pretrained(weights)
        if config.model_type not in ("upernet", "swin"):
            raise UserError(
                f"module.net.weights={weights} is a {config.model_type}, neither a UPerNet nor a"
                " Swin; name one of these"
            )
        whole = config.model_type == "upernet"
        own_config: Any = net.config
        _check_weight_shapes(
            own_config.backbone_config, config.backbone_config if whole else config, weights
        )
        own: Any = (
            UperNetForSemanticSegmentation
            if whole
            else partial(SwinBackbone.from_pretrained, out_features=STAGES)
        )
        read, about = (own.from_pretrained if whole else own)(weights, output_loading_info=True)
        made_up = set(about["missing_keys"])  # the library initialises these at random
        stored = {name: value for name, value in read.state_dict().items() if name not in made_up}
    except UserError:
        raise
    except Exception as error:
        if not (is_hub_error(error) or isinstance(error, OSError | ValueError | KeyError)):
            raise
        raise download_error(
            "module.net.weights",
            weights,
            "UPerNet",
            error,
            "folder (config.json and model.safetensors)",
        ) from error
    _fill_missing(
        net,
        stored if whole else {f"backbone.{name}": value for name, value in stored.items()},
        weights,
        whole,
    )
    return upernet_statistics(weights, own_config.backbone_config.num_channels)


def upernet_statistics(weights: str, in_channels: int) -> Statistics | None:
    """Mean and std that pretrained weights expect, as their image processor states them.

    Args:
        weights: A name on the hub, or a local folder.
        in_channels: Channels of the network's input.

    Returns:
        None where a local folder has no file of an image processor.
    """
    from transformers import AutoImageProcessor

    folder, source = Path(weights), f"weights {weights}"
    if folder.is_dir() and not any((folder / name).is_file() for name in PROCESSOR_FILES):
        return None
    try:
        processor: Any = AutoImageProcessor.from_pretrained(weights)
    except Exception as error:
        if not (
            is_hub_error(error)
            or isinstance(error, OSError | ValueError | KeyError | TypeError | ImportError)
        ):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:120]
        return Statistics.unusable(
            source, f"the image processor of the {source} cannot be read ({reason})"
        )
    rescales, factor = (
        bool(getattr(processor, "do_rescale", True)),
        getattr(processor, "rescale_factor", None) or 1 / 255,
    )
    if not rescales or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        stated = f"do_rescale={str(rescales).lower()} rescale_factor={factor:g}"
        return Statistics.unusable(
            source,
            f"the image processor of the {source} has {stated}, and pixels are divided by 255 here",
        )
    if not getattr(processor, "do_normalize", True):
        return Statistics.of_weights(
            [0.0] * in_channels, [1.0] * in_channels, f"{source}, do_normalize=false", in_channels
        )
    mean, std = (
        _per_channel(getattr(processor, name, None)) for name in ("image_mean", "image_std")
    )
    if not mean or len(mean) != len(std):
        return Statistics.unusable(
            source,
            f"the image processor of the {source} states no image_mean and image_std that belong"
            " together",
        )
    space = "BGR" if getattr(processor, "do_flip_channel_order", False) else "RGB"
    return Statistics.of_weights(mean, std, source, in_channels, input_space=space)


def _per_channel(value: Any) -> list[float]:
    return [value] * 3 if isinstance(value, int | float) else [float(each) for each in value or ()]


def _check_weight_shapes(own: Any, other: Any, weights: str) -> None:
    differ = [key for key in SHAPE if getattr(other, key, None) != getattr(own, key)]
    if differ:
        said = ", ".join(f"{key}={getattr(other, key, None)}" for key in differ)
        raise UserError(
            f"module.net.weights={weights} is of a Swin with {said}; set module.net.backbone so, or"
            " take the module/net of its size"
        )


def _fill_missing(net: nn.Module, stored: dict[str, Tensor], weights: str, whole: bool) -> None:
    own = net.state_dict()
    for name, value in stored.items():
        if (
            name.endswith("patch_embeddings.projection.weight")
            and value.shape[1] == 3
            and own[name].shape[1] == 1
        ):
            stored[name] = value.sum(
                1, keepdim=True
            )  # a grey image is the same in all three channels
    fits = {
        name: value
        for name, value in stored.items()
        if name in own and own[name].shape == value.shape
    }
    free = (
        "decode_head.classifier.",
        "auxiliary_head.",
        *(() if whole else ("decode_head.", "backbone.hidden_states_norms.")),
    )
    missing = [name for name in own if name not in fits and not name.startswith(free)]
    if missing:
        raise UserError(
            f"module.net.weights={weights} lacks {len(missing)} of the net's weights (the first is"
            f" {missing[0]}); name another, or null"
        )
    net.load_state_dict(own | fits)
