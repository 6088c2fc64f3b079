"""UPerNet with a Swin backbone, and its published weights."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from datamodules.arguments import (
    FilePath,
    Fraction,
    FromMapping,
    PositiveFloat,
    PositiveInt,
    check_value,
    validated,
)
from datamodules.errors import UserError
from lightning_modules.networks.lora_config import AdapterConfig
from lightning_modules.normalize import PixelStatistics
from lightning_modules.pretrained.reading import read_weights
from lightning_modules.pretrained.requests import UPERNET_KEY, transformers_request
from lightning_modules.pretrained.resolver import ResolvedWeights, resolve

SWIN_STAGES = ["stage1", "stage2", "stage3", "stage4"]
SHAPE_KEYS = (
    "patch_size",
    "embed_dim",
    "depths",
    "num_heads",
    "window_size",
    "mlp_ratio",
)  # keys in which weights of another network differ
PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
)  # files in a folder that state mean and std


def load_upernet_weights(net: nn.Module, found: ResolvedWeights) -> PixelStatistics | None:
    """Load weights of a complete UPerNet, or only of a Swin, into a UperNetForSemanticSegmentation.

    Args:
        net: Network to fill.
        found: The weights, a folder that transformers wrote.

    Returns:
        Mean and std that the weights expect; None if the folder does not state them.

    Raises:
        UserError: They cannot be read, or have another shape.
    """
    from transformers import AutoConfig, SwinBackbone, UperNetForSemanticSegmentation

    weights, folder = found.asked, found.path.parent
    read_weights(
        found.path, UPERNET_KEY
    )  # the library would stop at a damaged file with its own error
    try:
        config = AutoConfig.from_pretrained(folder)
        if config.model_type not in ("upernet", "swin"):
            raise UserError(
                f"{UPERNET_KEY}={weights} is a {config.model_type}, neither a UPerNet nor a"
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
            else partial(SwinBackbone.from_pretrained, out_features=SWIN_STAGES)
        )
        read, about = (own.from_pretrained if whole else own)(folder, output_loading_info=True)
        made_up = set(about["missing_keys"])  # the library initializes these at random
        stored = {name: value for name, value in read.state_dict().items() if name not in made_up}
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{UPERNET_KEY}={weights}: no UPerNet or Swin can be read from {folder}"
            f" ({_short_error(error)}); name a folder with config.json and model.safetensors, or"
            " start from scratch with null"
        ) from error
    _load_matching(
        net,
        stored if whole else {f"backbone.{name}": value for name, value in stored.items()},
        weights,
        whole,
    )
    return upernet_statistics(folder, weights, own_config.backbone_config.num_channels)


def upernet_statistics(folder: Path, weights: str, in_channels: int) -> PixelStatistics | None:
    """Return mean and std that pretrained weights expect, as stated by their image processor.

    Args:
        folder: Folder of the weights.
        weights: Their name in the configuration, for messages.
        in_channels: Channels of the network's input.

    Returns:
        The statistics; None if the folder has no file of an image processor.
    """
    from transformers import AutoImageProcessor

    source = f"weights {weights}"
    if not any((folder / name).is_file() for name in PROCESSOR_FILES):
        return None
    try:
        processor: Any = AutoImageProcessor.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:120]
        return PixelStatistics.unusable(
            source, f"the image processor of the {source} cannot be read ({reason})"
        )
    rescales, factor = (
        bool(getattr(processor, "do_rescale", True)),
        getattr(processor, "rescale_factor", None) or 1 / 255,
    )
    if not rescales or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        stated = f"do_rescale={str(rescales).lower()} rescale_factor={factor:g}"
        return PixelStatistics.unusable(
            source,
            f"the image processor of the {source} has {stated}, and pixels are divided by 255 here",
        )
    if not getattr(processor, "do_normalize", True):
        return PixelStatistics.from_weights(
            [0.0] * in_channels, [1.0] * in_channels, f"{source}, do_normalize=false", in_channels
        )
    mean, std = (
        _per_channel(getattr(processor, name, None)) for name in ("image_mean", "image_std")
    )
    if not mean or len(mean) != len(std):
        return PixelStatistics.unusable(
            source,
            f"the image processor of the {source} states no image_mean and image_std that belong"
            " together",
        )
    space = "BGR" if getattr(processor, "do_flip_channel_order", False) else "RGB"
    return PixelStatistics.from_weights(mean, std, source, in_channels, input_space=space)


def _per_channel(value: Any) -> list[float]:
    return [value] * 3 if isinstance(value, int | float) else [float(each) for each in value or ()]


def _check_weight_shapes(own: Any, other: Any, weights: str) -> None:
    differ = [key for key in SHAPE_KEYS if getattr(other, key, None) != getattr(own, key)]
    if differ:
        values = ", ".join(f"{key}={getattr(other, key, None)}" for key in differ)
        raise UserError(
            f"module.net.weights={weights} belongs to a Swin with {values}; set module.net.backbone"
            " to these values, or choose the module/net of its size"
        )


def _load_matching(net: nn.Module, stored: dict[str, Tensor], weights: str, whole: bool) -> None:
    from timm.models import adapt_input_conv

    own = net.state_dict()
    for name, value in stored.items():
        if (
            name.endswith("patch_embeddings.projection.weight")
            and value.shape[1] == 3
            and own[name].shape[1] == 1
        ):
            stored[name] = adapt_input_conv(1, value)  # a gray image is the same in all channels
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


BACKBONE_ARGUMENT_TYPES = {  # keys of transformers' SwinConfig, which checks none of them
    "patch_size": PositiveInt,
    "embed_dim": PositiveInt,
    "depths": Sequence[PositiveInt],
    "num_heads": Sequence[PositiveInt],
    "window_size": PositiveInt,
    "mlp_ratio": PositiveFloat,
    "drop_path_rate": Fraction,
    "hidden_dropout_prob": Fraction,
    "attention_probs_dropout_prob": Fraction,
}


@validated
class UperNet(nn.Module):
    """UPerNet with a Swin backbone; maps float `B x C x H x W` to logits `B x classes x H x W`.

    In training it returns a pair of logits if it has an auxiliary head, which gives the second.

    Args:
        backbone: Keys of transformers' SwinConfig: embed_dim, depths, num_heads, window_size,
            drop_path_rate, ...
        weights: UPerNet or Swin on the hub (`openmmlab/upernet-swin-base`), a local folder that
            holds one (config.json and model.safetensors), or None for scratch. A head for other
            classes is initialized at random.
        weights_folder: Folder of pretrained weights that is searched first; None for none.
        classes: Number of classes.
        in_channels: 1 for gray images; pretrained weights of three channels are then summed.
        hidden_size: Channels of the fused map.
        auxiliary: True to train a small auxiliary head on the third stage too.
        norm: `batch`, as published, or `group` (up to 32 groups), which does not depend on the
            number of images per device.
        lora: Adapters of the backbone, whose other weights are frozen, or their settings as a
            mapping; None trains the whole network.
        gradient_checkpointing: True to recompute the backbone's blocks in the backward pass, which
            needs less memory and more time.

    Attributes:
        pretrained: Origin of the pretrained weights; None from scratch.
        statistics: Mean and std that the pretrained weights expect; None from scratch, or from a
            folder that does not state them.

    Raises:
        UserError: The shape is impossible, or weights cannot be downloaded or read or have another
            shape.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        weights: str | None = None,
        weights_folder: FilePath | None = None,
        classes: PositiveInt = 1,
        in_channels: PositiveInt = 1,
        hidden_size: PositiveInt = 512,
        auxiliary: bool = True,
        norm: Literal["batch", "group"] = "batch",
        gradient_checkpointing: bool = False,
        lora: Annotated[AdapterConfig, FromMapping()] | None = None,
    ) -> None:
        super().__init__()
        from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

        for name, value in backbone.items():
            check_value(f"backbone.{name}", value, BACKBONE_ARGUMENT_TYPES.get(name, Any))
        _check_window_size(backbone)
        try:
            swin = SwinConfig(**backbone, num_channels=in_channels, out_features=SWIN_STAGES)  # type: ignore[call-arg]
            sizes = {
                "hidden_size": hidden_size,
                "num_labels": classes,
                "use_auxiliary_head": auxiliary,
            }
            config = UperNetConfig(backbone_config=swin, **sizes)  # type: ignore[arg-type]
            whole = UperNetForSemanticSegmentation(config)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"module.net.backbone={dict(backbone)} is not a Swin that can be built"
                f" ({_short_error(error)}); correct it"
            ) from error
        self.pretrained: ResolvedWeights | None = None
        self.statistics: PixelStatistics | None = None
        if weights is not None:
            self.pretrained = resolve(
                transformers_request(UPERNET_KEY, weights, "UPerNet", weights_folder)
            )
        if self.pretrained is not None:
            self.statistics = load_upernet_weights(whole, self.pretrained)
        self.encoder, self.decode_head, self.auxiliary_head = (
            whole.backbone,
            whole.decode_head,
            whole.auxiliary_head,
        )
        self.encoder.swin.layernorm.requires_grad_(
            False
        )  # after the last stage; its output is not used
        self.depths = list(swin.depths)
        if norm == "group":
            _use_group_norm(self.decode_head)
            _use_group_norm(self.auxiliary_head)
        if gradient_checkpointing:
            _checkpoint_blocks(self.encoder)
        if lora is not None:
            from lightning_modules.networks.lora import adapt_encoder  # peft takes a second

            adapt_encoder(self, lora)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits at the size of `image`."""
        maps = self.encoder(image.contiguous()).feature_maps
        logits = _upsample_features(self.decode_head(maps), image)
        if self.training and self.auxiliary_head is not None:
            return logits, _upsample_features(self.auxiliary_head(maps), image)
        return logits

    def depth_of(self, name: str) -> int:
        """Return a parameter's depth: 0 for the patch embedding, `sum(depths) + 1` for the heads.

        Args:
            name: Name in `named_parameters`.
        """
        last = sum(self.depths) + 1
        if not name.startswith("encoder."):
            return last
        block = re.search(r"layers\.(\d+)\.blocks\.(\d+)\.", name)
        if block:
            return sum(self.depths[: int(block[1])]) + int(block[2]) + 1
        stage = re.search(r"layers\.(\d+)\.downsample\.", name) or re.search(
            r"hidden_states_norms\.stage(\d)", name
        )
        if stage is None:
            return 0
        return sum(self.depths[: int(stage[1]) + ("downsample" in name)])


def _check_window_size(backbone: Mapping[str, Any]) -> None:
    """Refuse a network that the library would build but that fails at its first image."""
    width, heads, depths = (
        backbone.get("embed_dim", 96),
        list(backbone.get("num_heads", [3, 6, 12, 24])),
        list(backbone.get("depths", [2, 2, 6, 2])),
    )
    if (
        len(depths) != 4
        or len(heads) != 4
        or any(width * 2**stage % number for stage, number in enumerate(heads))
    ):
        shape = f"embed_dim={width} num_heads={heads} depths={depths}"
        raise UserError(
            f"module.net.backbone: {shape} is not a Swin of four stages with channels divisible"
            " by the heads; correct one of them"
        )


def _upsample_features(logits: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)


def _use_group_norm(head: nn.Module | None) -> None:
    """Replace BatchNorm by group normalization wherever the head has it."""
    for module in [] if head is None else list(head.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                # at least 8 channels per group, because a map pooled to one pixel has no others
                channels = layer.num_features
                groups = next(
                    number
                    for number in (32, 16, 8, 4, 2, 1)
                    if number == 1 or (channels % number == 0 and channels >= 8 * number)
                )
                setattr(module, name, nn.GroupNorm(groups, channels))


def _checkpoint_blocks(encoder: nn.Module) -> None:
    """Checkpoint only the inner one of the backbone's two nested levels.

    Both together would compute everything three times.
    """
    from transformers.models.swin.modeling_swin import SwinLayer

    for layer in encoder.modules():
        if isinstance(layer, SwinLayer):
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment]


def _short_error(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:160]
