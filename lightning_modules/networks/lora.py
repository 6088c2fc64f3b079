"""Injection of LoRA adapters into a network, and their merge into its weights."""

import copy
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
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

ADAPTABLE = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
LISTED = 8  # names of layers in a message


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
    _check_layers(net, names, adapters, layers_to_adapt(net, head), unused)
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,  # type: ignore[arg-type]
        lora_dropout=adapters.dropout,
        bias="none",
        target_modules="|".join(map(re.escape, names)),  # peft compares a list with ends of names
    )
    try:
        inject_adapter_in_model(config, net)
    except ValueError as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise UserError(
            f"module.net.lora: {type(net).__name__} cannot be adapted ({reason}); name other layers"
            " in module.net.lora.targets"
        ) from error
    _patch_adapted_layers(net)


def _check_layers(
    net: nn.Module,
    names: Sequence[str],
    adapters: AdapterConfig,
    known: Iterable[str],
    unused: Collection[str],
) -> None:
    """Refuse names that no layer has, layers of another kind, and a rank above those of all layers.

    Args:
        net: Network to adapt.
        names: Its layers that were chosen.
        adapters: Configuration of the adapters.
        known: Layers that are adapted without `targets`.
        unused: Names of layers that no output depends on.

    Raises:
        UserError: It is refused; the message names layers that can be adapted.
    """
    kind = type(net).__name__
    ends = Counter(_end_of(name) for name in known if name not in unused)
    more = ", ..." * (len(ends) > LISTED)
    there = ", ".join(name for name, _ in ends.most_common(LISTED)) + more
    for target in adapters.targets or ():
        if not any(f".{name}".endswith(f".{target}") for name in names):
            raise UserError(
                f"module.net.lora.targets: no layer of {kind} is named {target} (or none that it"
                f" uses); name layers such as {there or 'its linear layers'}"
            )
    if not names:
        raise UserError(
            f"module.net.lora: no layer of {kind} is an ungrouped Conv2d or an attention; name"
            " linear layers in module.net.lora.targets, or set module.net.lora=null"
        )
    layers = {name: net.get_submodule(name) for name in names}
    wrong = [name for name, layer in layers.items() if not isinstance(layer, ADAPTABLE)]
    if wrong:
        raise UserError(
            f"module.net.lora.targets: {wrong[0]} of {kind} is a"
            f" {type(layers[wrong[0]]).__name__}, and only convolutions, linear layers and"
            f" attentions can be adapted; name such layers, as {there or 'its linear layers'}"
        )
    largest = max(map(_smaller_side, layers.values()))
    if adapters.rank > largest:
        raise UserError(
            f"module.net.lora.rank={adapters.rank} is more than the smaller side of every adapted"
            f" layer (at most {largest}), so that the adapters would be larger than the layers;"
            f" set module.net.lora.rank={min(8, largest)}, or train the layers themselves with"
            " module.net.lora=null"
        )


def _end_of(name: str) -> str:
    """Return the last part of a layer's name, with the one before it if it is a number."""
    *_, before, last = ("", *name.split("."))
    return f"{before}.{last}" if last.isdecimal() and before else last


def _smaller_side(layer: nn.Module) -> int:
    """Return the smaller side of a layer's weight as a matrix: its largest possible rank."""
    weight = layer.in_proj_weight if isinstance(layer, nn.MultiheadAttention) else layer.weight
    if not isinstance(weight, Tensor):  # an attention with other sizes of keys and values
        return int(layer.embed_dim)  # type: ignore[arg-type]
    return min(len(weight), weight.numel() // max(1, len(weight)))


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
