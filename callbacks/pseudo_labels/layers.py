"""Which layers of a classifier heat maps are made of, and the classifier held still while they are listened to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from torch import nn

from callbacks.feature_maps.layers import find_stage_layers
from datamodules.refusal import UserError


def resolve_layers(net: nn.Module, layers: Sequence[str] | str | None, key: str) -> list[str]:
    """Names of layers of the network, checked.

    Args:
        net: The classifier.
        layers: Names as in `named_modules`, or one; None is the last stage.
        key: What errors call `layers`.

    Raises:
        Refusal: a name that the network does not have, with the nearest ones; no name; a network
            without a stage that could be found.
    """
    if layers is None:
        return [find_last_stage(net, key)]
    names = [layers] if isinstance(layers, str) else list(map(str, layers))
    if not names:
        raise UserError(
            f"{key}=[] names no layer; write null to have the last stage found, or names"
        )
    known = [name for name, _ in net.named_modules() if name]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
            raise UserError(
                f"{key} names {name or 'nothing'}, which the network does not have; did you mean"
                f" {' or '.join(near)}?"
            )
    return list(dict.fromkeys(names))


def find_last_stage(net: nn.Module, key: str) -> str:
    """The last stage that timm names in `feature_info`; of other networks the last child that holds a convolution, wrappers left aside.

    Args:
        net: The classifier.
        key: What the error calls the layers.

    Raises:
        Refusal: there is no such layer.
    """
    try:
        return list(find_stage_layers(net).values())[-1]
    except UserError:  # says it of the feature maps
        path, body = "", net
    while len(children := dict(body.named_children())) == 1:
        name, body = next(iter(children.items()))
        path += f"{name}."
    holding = [
        name
        for name, child in children.items()
        if any(isinstance(part, nn.Conv2d) for part in child.modules())
    ]
    if not holding:
        known = ", ".join(
            [name for name, _ in net.named_modules() if name and name.count(".") < 2][:6]
        )
        raise UserError(
            f"{key}=null finds no stage in {type(net).__name__}, which has no convolution; write"
            f" {key}=[NAME] with names such as {known}"
        )
    return path + holding[-1]


@contextmanager
def frozen_eval_mode(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, its parameters without gradients; both are as before afterwards, whatever happens."""
    training = [(module, module.training) for module in net.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    try:
        net.eval().requires_grad_(False)
        yield
    finally:
        for module, mode in training:
            module.training = mode  # not train(mode), which would reach its children
        for parameter, flag in learning:
            parameter.requires_grad_(flag)
