"""Injection of LoRA adapters into a network, and their merge into its weights."""

import copy
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Conv2d, Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention

from datamodules.errors import UserError
from lightning_modules.networks.encoder import has_adapters
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from lightning_modules.networks.lora_config import AdapterConfig


def inject_adapters(
    net: nn.Module, head: str, adapters: AdapterConfig, unused: Collection[str] = ()
) -> None:
    """Inject adapters into a network in place and freeze all other weights.

    Args:
        net: Network of timm or torchvision.
        head: Name of its head, which is not changed; empty for an encoder without one.
        adapters: Configuration of the adapters; without `targets` they are added to
            `layers_to_adapt`.
        unused: Names of layers that get no adapter, because no output depends on them.

    Raises:
        UserError: No layer matches.
    """
    targets = adapters.targets
    found = layers_to_adapt(net, head) if targets is None else _layers_named(net, targets)
    names = [name for name in found if name not in unused]
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,  # type: ignore[arg-type]
        lora_dropout=adapters.dropout,
        bias="none",
        target_modules="|".join(map(re.escape, names)),  # peft compares a list with ends of names
    )
    try:
        if not names:
            raise ValueError("none")
        inject_adapter_in_model(config, net)
    except ValueError as error:
        kinds = Counter(
            type(layer).__name__ for layer in net.modules() if not list(layer.children())
        )
        there = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(8))
        asked = (
            "an ungrouped Conv2d or an attention"
            if targets is None
            else f"named {', '.join(targets)}"
        )
        message = f"no layer of {type(net).__name__} is {asked} (it has {there})"
        raise UserError(
            f"module.net.lora: {message}; name some in module.net.lora.targets"
        ) from error
    _patch_adapted_layers(net)


def adapt_encoder(net: nn.Module, adapters: AdapterConfig) -> None:
    """Freeze the encoder of a segmentation network and inject adapters into it, in place.

    Stages that no logit depends on get none.

    Args:
        net: Network with an `encoder`.
        adapters: Configuration of the adapters.

    Raises:
        UserError: No layer of the encoder matches.
    """
    encoder: Any = net.encoder
    unused = {
        name
        for name, layer in encoder.named_modules()
        if (values := list(layer.parameters())) and not any(each.requires_grad for each in values)
    }
    encoder.requires_grad_(False)
    inject_adapters(encoder, "", adapters, unused)


def _layers_named(net: nn.Module, targets: Sequence[str]) -> Iterator[str]:
    ends = tuple(f".{target}" for target in targets)
    for name, _ in net.named_modules():
        if f".{name}".endswith(ends):
            yield name


def layers_to_adapt(net: nn.Module, head: str) -> Iterator[str]:
    """Yield every Conv2d with groups == 1 and the layers of every attention; not the head.

    In an attention these are its Linear layers or its MultiheadAttention. peft can adapt a grouped
    convolution only if the rank is divisible by the groups, and cannot merge it.
    """
    inside = tuple(
        f"{name}." for name, layer in net.named_modules() if "Attention" in type(layer).__name__
    )
    whole = tuple(
        f"{name}."
        for name, layer in net.named_modules()
        if isinstance(layer, nn.MultiheadAttention)
    )
    for name, layer in net.named_modules():
        if (head and (name == head or name.startswith(f"{head}."))) or name.startswith(whole):
            continue
        linear = isinstance(layer, nn.Linear) and name.startswith(inside)
        if (
            linear
            or isinstance(layer, nn.MultiheadAttention)
            or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
        ):
            yield name


def merge_adapters(net: nn.Module) -> nn.Module:
    """Return a copy without LoRA whose adapters are merged into the weights; same logits."""
    plain = copy.deepcopy(net).eval()
    done: list[str] = []
    for name, layer in [
        (name, layer) for name, layer in plain.named_modules() if isinstance(layer, BaseTunerLayer)
    ]:
        if name.startswith(tuple(done)):
            continue  # the projection inside an adapted MultiheadAttention is merged with it
        done.append(f"{name}.")
        parent, _, child = name.rpartition(".")
        setattr(plain.get_submodule(parent), child, _merge_layer(layer))
    return plain.requires_grad_(True)


def merge_network(net: nn.Module) -> nn.Module:
    """Return a network of a module without LoRA, which is the network itself if it has none."""
    if isinstance(net, FrozenBackboneClassifier):
        return net.merge_adapters()
    return merge_adapters(net) if has_adapters(net) else net


def _merge_layer(layer: BaseTunerLayer) -> nn.Module:
    if hasattr(layer, "unload_and_optionally_merge_module"):
        return layer.unload_and_optionally_merge_module(
            merge=True, safe_merge=False, adapter_names=None
        )
    layer.merge()
    return layer.get_base_layer()


class _MergedWeightLinear(Linear):
    """Adapted Linear whose weight an attention uses without calling it (torchvision's Swin)."""

    @property
    def weight(self) -> Tensor:
        """Adapted weight, without dropout, which acts on an input."""
        weight: Any = self.base_layer.weight
        return (
            weight
            if self.merged or self.disable_adapters
            else weight + self.get_delta_weight("default")
        )


def _patch_adapted_layers(net: nn.Module) -> None:
    for owner in net.modules():
        for layer in owner.children() if isinstance(owner, ShiftedWindowAttention) else ():
            if isinstance(layer, Linear):
                layer.__class__ = _MergedWeightLinear
    for layer in net.modules():
        if isinstance(layer, BaseTunerLayer):
            # otherwise autocast converts every input to fp32 and back
            layer.cast_input_dtype_enabled = False  # type: ignore[assignment]
        if isinstance(layer, Conv2d):
            for first in layer.lora_A.values():
                # peft copies kernel, stride and padding alone; DeepLabV3+ dilates its last stage
                first.dilation = layer.base_layer.dilation  # type: ignore[union-attr,assignment]
            for name, dropout in layer.lora_dropout.items():
                if isinstance(dropout, nn.Dropout):
                    # dropout of whole channels: neighbouring pixels are nearly equal, and a mask
                    # per pixel is slow
                    layer.lora_dropout[name] = nn.Dropout2d(dropout.p)
