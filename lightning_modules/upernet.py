"""UPerNet (Xiao et al. 2018) of transformers with a Swin backbone (Liu et al. 2021).

Its weights come from the hub, from a local folder, or from scratch.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from datamodules.arguments import Count, Fraction, Positive, check_value, validated
from datamodules.refusal import UserError
from lightning_modules.normalize import Statistics
from lightning_modules.upernet_weights import STAGES, load_upernet_weights

BACKBONE = {  # keys of transformers' SwinConfig, which checks none of them
    "patch_size": Count,
    "embed_dim": Count,
    "depths": Sequence[Count],
    "num_heads": Sequence[Count],
    "window_size": Count,
    "mlp_ratio": Positive,
    "drop_path_rate": Fraction,
    "hidden_dropout_prob": Fraction,
    "attention_probs_dropout_prob": Fraction,
}


@validated
class UperNet(nn.Module):
    """Maps float `B x in_channels x H x W` to logits `B x classes x H x W`.

    In training it gives a pair of them, the second from the auxiliary head, if there is one.

    Args:
        backbone: Keys of transformers' SwinConfig: embed_dim, depths, num_heads, window_size,
            drop_path_rate, ...
        weights: A UPerNet or a Swin of the hub (`openmmlab/upernet-swin-base`), a local folder that
            holds one (config.json and model.safetensors), or None for scratch. A head of other
            classes starts afresh.
        classes: Logits.
        in_channels: 1 for grey: pretrained weights of three channels are then summed.
        hidden_size: Channels of the fused map.
        auxiliary: Whether training also has a small head on the third stage.
        norm: `batch`, as published, or `group` (up to 32 groups), which does not depend on the
            number of images per device.
        gradient_checkpointing: Recompute the backbone's blocks in the backward pass: less memory,
            more time.

    Attributes:
        statistics: Mean and std that the pretrained weights expect; None from scratch, or from a
            folder that does not state them.

    Raises:
        Refusal: an impossible shape, weights that cannot be fetched or read, or that are of another
            shape.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        weights: str | None = None,
        classes: Count = 1,
        in_channels: Count = 1,
        hidden_size: Count = 512,
        auxiliary: bool = True,
        norm: Literal["batch", "group"] = "batch",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

        for name, value in backbone.items():
            check_value(f"backbone.{name}", value, BACKBONE.get(name, Any))
        _check_window_size(backbone)
        try:
            swin = SwinConfig(**backbone, num_channels=in_channels, out_features=STAGES)  # type: ignore[call-arg]
            sizes = {
                "hidden_size": hidden_size,
                "num_labels": classes,
                "use_auxiliary_head": auxiliary,
            }
            config = UperNetConfig(backbone_config=swin, **sizes)  # type: ignore[arg-type]
            whole = UperNetForSemanticSegmentation(config)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"module.net.backbone={dict(backbone)} is no Swin that can be built"
                f" ({_stage_line(error)}); correct it"
            ) from error
        self.statistics: Statistics | None = (
            None if weights is None else load_upernet_weights(whole, weights)
        )
        self.encoder, self.decode_head, self.auxiliary_head = (
            whole.backbone,
            whole.decode_head,
            whole.auxiliary_head,
        )
        self.encoder.swin.layernorm.requires_grad_(
            False
        )  # behind the last stage; nothing here looks at what it gives
        self.depths = list(swin.depths)
        if norm == "group":
            _use_group_norm(self.decode_head)
            _use_group_norm(self.auxiliary_head)
        if gradient_checkpointing:
            _checkpoint_blocks(self.encoder)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits at the size of `image`."""
        maps = self.encoder(image.contiguous()).feature_maps
        logits = _upsample_features(self.decode_head(maps), image)
        if self.training and self.auxiliary_head is not None:
            return logits, _upsample_features(self.auxiliary_head(maps), image)
        return logits

    def depth_of(self, name: str) -> int:
        """Return a parameter's depth: 0 for the patch embedding, `sum(depths) + 1` for the heads.

        Args:
            name: As in `named_parameters`.
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
    """Refuse a network that the library would build, but that fails at its first image."""
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
        said = f"embed_dim={width} num_heads={heads} depths={depths}"
        raise UserError(
            f"module.net.backbone: {said} is no Swin of four stages whose heads share the channels"
            " evenly; correct one of them"
        )


def _upsample_features(logits: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)


def _use_group_norm(head: nn.Module | None) -> None:
    """Replace BatchNorm by group normalisation wherever the head has it."""
    for module in [] if head is None else list(head.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                channels = (
                    layer.num_features
                )  # at least 8 a group: a map that was pooled to one pixel has no other values
                groups = next(
                    number
                    for number in (32, 16, 8, 4, 2, 1)
                    if number == 1 or (channels % number == 0 and channels >= 8 * number)
                )
                setattr(module, name, nn.GroupNorm(groups, channels))


def _checkpoint_blocks(encoder: nn.Module) -> None:
    """Checkpoint the inner one of the backbone's two nested levels alone.

    Both together would compute everything three times.
    """
    from transformers.models.swin.modeling_swin import SwinLayer

    for layer in encoder.modules():
        if isinstance(layer, SwinLayer):
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment]


def _stage_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:160]
