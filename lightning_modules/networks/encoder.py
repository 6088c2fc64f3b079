"""Encoder of a network: which parameters belong to it, the depths of its layers, frozen layers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from datamodules.errors import UserError
from lightning_modules.networks.classification import AUXILIARY_HEADS, find_head
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from lightning_modules.networks.lora_config import is_adapter, plain_name
from lightning_modules.pretrained.reading import block_of

FSDP = "_fsdp_wrapped_module."  # part of the names of parameters that FSDP has wrapped
# patch embeddings of a Mix Transformer, which are registered before all blocks
STAGE_EMBEDDING = re.compile(r"(.*?)patch_embed(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Part of a network that pretrained weights fill: all of a classifier but its head.

    Attributes:
        layer: Name of the layer in the network; empty for the network itself.
        heads: Names of the layers in it that do not belong to the encoder.
    """

    layer: str
    heads: tuple[str, ...] = ()

    def contains(self, name: str) -> bool:
        """Return True if a parameter belongs to the encoder.

        Args:
            name: Name in the network's `named_parameters`.
        """
        name = name.replace(FSDP, "")
        inside = not self.layer or name.startswith(f"{self.layer}.")
        return inside and not name.startswith(tuple(f"{head}." for head in self.heads))

    def named_parameters(self, net: nn.Module) -> dict[str, nn.Parameter]:
        """Return the encoder's parameters by their names in the network."""
        return {
            name.replace(FSDP, ""): value
            for name, value in net.named_parameters()
            if self.contains(name)
        }

    def eval(self, net: nn.Module) -> None:
        """Put the encoder into evaluation mode, without dropout; the heads keep their mode."""
        heads = {head: net.get_submodule(head).training for head in self.heads}
        (net.get_submodule(self.layer) if self.layer else net).eval()
        for head, training in heads.items():
            net.get_submodule(head).train(training)


def find_encoder(net: nn.Module) -> Encoder | None:
    """Find the encoder: the layer `encoder`, or all of a classifier but its head.

    Args:
        net: Network, also a classifier whose last parameters are those of a linear layer.

    Returns:
        The encoder; None if it is not known.
    """
    torchvision = type(net).__module__.startswith("torchvision.")  # its ViT has an `encoder` too
    if isinstance(getattr(net, "encoder", None), nn.Module) and not torchvision:
        return Encoder(layer="encoder")
    layer = "net" if isinstance(net, FrozenBackboneClassifier) else ""
    body = net.get_submodule(layer) if layer else net
    try:
        head = find_head(body)[0].replace(FSDP, "")
    except UserError:
        return None
    names = [name.replace(FSDP, "") for name, _ in body.named_parameters()]
    if not head or not (hasattr(body, "get_classifier") or names[-1].startswith(f"{head}.")):
        return None
    auxiliary = [name for name in AUXILIARY_HEADS if getattr(body, name, None) is not None]
    heads = [f"{layer}.{name}" if layer else name for name in (head, *auxiliary)]
    return Encoder(layer=layer, heads=tuple(heads))


def has_adapters(net: nn.Module) -> bool:
    """Return True if a network has LoRA adapters."""
    return any(is_adapter(name) for name, _ in net.named_parameters())


def count_parameters(net: nn.Module, freezes_encoder: bool = False) -> tuple[int, int]:
    """Count the parameters of a network that are trained, and all of them.

    Args:
        net: The network, before or after a fit.
        freezes_encoder: True if the fit trains nothing in the encoder.

    Returns:
        Numbers of trained and of all parameters.
    """
    encoder = find_encoder(net) if freezes_encoder else None
    trained = sum(
        value.numel()
        for name, value in net.named_parameters()
        if value.requires_grad and not (encoder is not None and encoder.contains(name))
    )
    return trained, sum(value.numel() for value in net.parameters())


def check_freezable(net: nn.Module, key: str, fix: str) -> None:
    """Refuse to freeze the encoder of a network that has none, or one that is frozen already.

    Args:
        net: The network.
        key: Configuration key that freezes it.
        fix: How to do without.

    Raises:
        UserError: It is refused.
    """
    encoder = find_encoder(net)
    if encoder is None:
        raise UserError(
            f"{key} needs a network with a known encoder (its layer `encoder`, or all of a"
            f" classifier but its linear head), which {type(net).__name__} does not have; {fix}"
        )
    if has_adapters(net):
        classifier = isinstance(net, FrozenBackboneClassifier)
        without = "take module/net=classifier" if classifier else "set module.net.lora=null"
        raise UserError(
            f"{key} would freeze the adapters of module.net.lora, which are all that is trained in"
            f" the encoder; {fix}, or {without}"
        )
    if not any(value.requires_grad for value in encoder.named_parameters(net).values()):
        raise UserError(
            f"{key} would change nothing, because the encoder of this network is frozen already;"
            f" {fix}"
        )


def eval_frozen_layers(net: nn.Module) -> None:
    """Put frozen layers of a network that is trained into evaluation mode.

    These are each BatchNorm whose parameters are frozen, and the whole encoder if none of its
    parameters is trained: statistics of pretrained weights then stay with their weights.
    """
    encoder = find_encoder(net)
    frozen = set()  # parameters of an encoder of which at most adapters are trained
    if encoder is not None:
        own = encoder.named_parameters(net)
        if own and not any(value.requires_grad for value in own.values()):
            encoder.eval(net)
        if not any(value.requires_grad for name, value in own.items() if not is_adapter(name)):
            frozen = {name.rpartition(".")[0] for name in own}
    for name, layer in net.named_modules():
        if isinstance(layer, _BatchNorm):
            values = list(layer.parameters())
            if values:
                is_frozen = not any(value.requires_grad for value in values)
            else:  # without parameters it belongs to the layers around it
                is_frozen = bool(frozen) and encoder is not None and encoder.contains(f"{name}.")
            if is_frozen:
                layer.eval()


def layer_depths(net: nn.Module) -> dict[str, int] | None:
    """Return the depth of each parameter of the encoder, from the names of its stages and blocks.

    The stem has depth 0, and each block is one deeper than the block before it. A layer between
    two blocks has the depth of the block before it, but one that belongs to a stage and is
    registered before its blocks has the depth of the first of them, as in timm's layer groups.

    Args:
        net: Network; its method `depth_of`, if it has one, knows the depths.

    Returns:
        Name in `named_parameters` -> depth; None if less than half of the parameters have such
        names, or if there is one block only.
    """
    encoder = find_encoder(net)
    if encoder is None:
        return None
    names = list(encoder.named_parameters(net))
    own: Callable[[str], int] | None = getattr(net, "depth_of", None)
    if own is not None:
        return {name: own(name) for name in names}
    blocks = {name: _block_of(name) for name in names}
    whole = [block for block in dict.fromkeys(blocks.values()) if block]
    numbered = [
        block
        for block in whole
        if not any(other != block and other.startswith(block) for other in whole)
    ]
    if len(numbered) < 2 or 2 * sum(map(bool, blocks.values())) < len(blocks):
        return None
    order = {block: depth for depth, block in enumerate(numbered, 1)}
    found: dict[str, int] = {}
    reached = 0
    for name, block in blocks.items():
        if block in order:
            reached = found[name] = order[block]
        elif block:  # of a stage, but of none of its blocks
            within = [depth for each, depth in order.items() if each.startswith(block)]
            found[name] = reached if reached in within else within[0]
        else:
            found[name] = reached
    lowest = min(found.values())
    return {name: depth - lowest for name, depth in found.items()}


def _block_of(name: str) -> str:
    embedding = STAGE_EMBEDDING.match(name)
    if embedding is not None and embedding[2] != "1":
        return f"{embedding[1]}block{embedding[2]}."
    return block_of(plain_name(name))


def rate_factors(
    net: nn.Module, encoder_lr_mult: float = 1.0, layer_decay: float = 1.0
) -> dict[str, float]:
    """Return the learning rate of the encoder's parameters, as multiples of the ordinary rate.

    Adapters (LoRA) have the ordinary rate: they are new weights, as those of a head.

    Args:
        net: The network.
        encoder_lr_mult: Factor for the whole encoder.
        layer_decay: Factor of each layer relative to the next one (Bao et al. 2022, BEiT); the
            head or decoder is the last layer.

    Returns:
        Name in `named_parameters` -> factor; empty if both factors are 1.

    Raises:
        UserError: The encoder or the depths of its layers are unknown.
    """
    if encoder_lr_mult == layer_decay == 1.0:
        return {}
    encoder = find_encoder(net)
    if encoder is None:
        key, value = (
            ("layer_decay", layer_decay)
            if layer_decay != 1.0
            else ("encoder_lr_mult", encoder_lr_mult)
        )
        raise UserError(
            f"module.{key}={value:g} needs a network with a known encoder (its layer `encoder`, or"
            f" all of a classifier but its linear head), which {type(net).__name__} does not have;"
            f" set module.{key}=1.0"
        )
    names = [name for name in encoder.named_parameters(net) if not is_adapter(name)]
    if layer_decay == 1.0:
        return dict.fromkeys(names, encoder_lr_mult)
    depths = layer_depths(net)
    if depths is None:
        raise UserError(
            f"module.layer_decay={layer_decay:g} needs an encoder whose parameters are named by"
            f" stages or blocks, such as layer1.0, unlike those of this {type(net).__name__}; set"
            " module.layer_decay=1.0"
        )
    own: Callable[[str], int] | None = getattr(net, "depth_of", None)
    last = max(depths.values()) + 1 if own is None else own("")
    return {name: encoder_lr_mult * layer_decay ** (last - depths[name]) for name in names}


def check_rate_factors(net: nn.Module, encoder_lr_mult: float, layer_decay: float) -> None:
    """Refuse learning rates of an encoder that is unknown or frozen; see `rate_factors`.

    Raises:
        UserError: They are refused; the message names the key.
    """
    factors = rate_factors(net, encoder_lr_mult, layer_decay)
    parameters = {name.replace(FSDP, ""): value for name, value in net.named_parameters()}
    if factors and not any(parameters[name].requires_grad for name in factors):
        reason = (
            "all weights of the encoder are frozen (adapters and the head have the ordinary rate)"
        )
        refuse_rates(encoder_lr_mult, layer_decay, reason)


def refuse_rates(encoder_lr_mult: float, layer_decay: float, reason: str) -> None:
    """Refuse learning rates that no weight would have; rates of 1 change nothing.

    Args:
        encoder_lr_mult: As in `rate_factors`.
        layer_decay: As in `rate_factors`.
        reason: Why the encoder has no rate.

    Raises:
        UserError: One of them is not 1.
    """
    words = describe_rates(encoder_lr_mult, layer_decay)
    if words:
        fix = " ".join(f"{word.partition('=')[0]}=1.0" for word in words)
        raise UserError(f"{' and '.join(words)} would change nothing, because {reason}; set {fix}")


def describe_rates(encoder_lr_mult: float, layer_decay: float) -> list[str]:
    """Return the keys of learning rates that are not 1, with their values."""
    rates = {"encoder_lr_mult": encoder_lr_mult, "layer_decay": layer_decay}
    return [f"module.{key}={value:g}" for key, value in rates.items() if value != 1.0]
