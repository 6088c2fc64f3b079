"""Search for layers of a network by name or stage, hooks on them, and records of their output."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError

BACKBONE_NAMES = ("encoder", "backbone")
FUSION_NAMES = ("decode_head.fpn_bottleneck", "decoder")
LAYERS_KEY = "callbacks.feature_maps.layers"
EXTRA_LAYERS = 8  # largest number of tokens before those of the grid (class token, registers)


def find_stage_layers(net: nn.Module) -> dict[str, str]:
    """Return title -> layer: the encoder that returns all stages, and the layer that fuses them.

    For a timm network without these, return its stages.

    Raises:
        UserError: The network has neither.
    """
    found = _search_stage_layers(net)
    if not found:
        fix = f"write {LAYERS_KEY}={{title: NAME}} with names such as {_outer_layers(net)}"
        raise UserError(
            f"{LAYERS_KEY}=null finds no stages in {type(net).__name__}, which has no encoder with"
            f" a decoder; {fix}"
        )
    return found


def _search_stage_layers(net: nn.Module) -> dict[str, str]:
    names = dict(net.named_modules())
    for path in names:
        body = next(
            (
                _layers_below(path, name)
                for name in BACKBONE_NAMES
                if _layers_below(path, name) in names
            ),
            None,
        )
        fusing = next(
            (
                _layers_below(path, name)
                for name in FUSION_NAMES
                if _layers_below(path, name) in names
            ),
            None,
        )
        if body and fusing:
            return {"stage": body, "fused": fusing}
    for path, module in names.items():
        info = getattr(module, "feature_info", None)
        stages = (
            [_layers_below(path, entry["module"]) for entry in info if "module" in entry]
            if isinstance(info, list)
            else []
        )
        if stages and all(stage in names for stage in stages):
            return {f"stage {number}": stage for number, stage in enumerate(stages, 1)}
    return {}


def _outer_layers(net: nn.Module) -> str:
    """List the first layers, for an error message that asks for a name."""
    return ", ".join([name for name, _ in net.named_modules() if name and name.count(".") < 2][:6])


def _layers_below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def check_layer_names(net: nn.Module, layers: Mapping[str, str]) -> None:
    """Refuse the name of a layer that the network does not have or that has no output.

    Args:
        net: The network.
        layers: Title -> name.

    Raises:
        UserError: A name is refused; the message names similar layers.
    """
    if not layers:
        raise UserError(
            f"{LAYERS_KEY}={{}} names no layer; write null to use the stages, or title: NAME"
        )
    _refuse_silent_layers(net, map(str, layers.values()), LAYERS_KEY)


def _refuse_silent_layers(net: nn.Module, layer_names: Iterable[str], key: str) -> None:
    modules = {name: module for name, module in net.named_modules() if name}
    for name in layer_names:
        if name not in modules:
            near = get_close_matches(name, modules, n=3, cutoff=0.4) or list(modules)[:3]
            raise UserError(
                f"{key} names {name or 'nothing'}, which the network does not have; did you mean"
                f" {' or '.join(near)}?"
            )
        if isinstance(modules[name], nn.ModuleList | nn.ModuleDict):
            parts = [_layers_below(name, part) for part, _ in modules[name].named_children()][:3]
            raise UserError(
                f"{key} names {name}, a list of layers without an output of its own; name one of"
                f" them,"
                f" such as {' or '.join(parts)}"
            )


@contextmanager
def hook_layers(net: nn.Module, hooks: Iterable[tuple[str, Callable[..., Any]]]) -> Iterator[None]:
    """Call hooks after the forward of layers, without torch.compile, and remove them afterwards.

    Args:
        net: The network.
        hooks: Pairs of a layer's name and its hook; a value that a hook returns replaces the
            output.
    """
    handles = [net.get_submodule(name).register_forward_hook(hook) for name, hook in hooks]
    try:
        with torch.compiler.set_stance(
            "force_eager"
        ):  # code that was compiled before does not call the hooks
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def hook_forward(
    net: nn.Module, before: Callable[..., Any], after: Callable[..., Any]
) -> Iterator[None]:
    """Call hooks before and after each forward, and remove them afterwards.

    Args:
        net: The network.
        before: Function of the network, its arguments and its keyword arguments.
        after: Function of the network, its arguments and its output (None if the forward failed); a
            value that it returns replaces the output.
    """
    handles = [
        net.register_forward_pre_hook(before, with_kwargs=True),
        net.register_forward_hook(after, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def record_activations(
    net: nn.Module, layers: Mapping[str, str], aspect: float = 1.0
) -> Iterator[dict[str, list[Tensor]]]:
    """Record the output of each layer on its first call after `clear()`.

    Later calls, such as those of mirrored views, are not recorded.

    Args:
        net: The network; it runs without torch.compile while it is recorded.
        layers: Title -> name.
        aspect: Height / width of the canvas.

    Yields:
        Title -> maps, float `C x h x w` of the first image of the batch, on the CPU. The maps of a
        layer with several outputs are named title 1, title 2, ...
    """
    recorded: dict[str, list[Tensor]] = {}

    def make_hook(title: str) -> Any:
        """Return a hook that records the first output of a layer under its title."""

        def record(module: nn.Module, given: Any, output: Any) -> None:
            """Record the output unless there is one already."""
            if title not in recorded:
                recorded[title] = [
                    grid
                    for each in _to_maps(output, given)
                    if (grid := to_chw(each[0].detach(), aspect)) is not None
                ]

        return record

    with hook_layers(net, [(name, make_hook(title)) for title, name in layers.items()]):
        yield recorded


def _to_maps(output: Any, given: Any) -> list[Tensor]:
    """Return the maps in a layer's output, without the image itself and empty entries.

    Encoders also return the image, and some an empty entry.
    """
    output = getattr(output, "feature_maps", output)  # attribute of backbones in transformers
    if isinstance(output, Mapping):
        output = list(output.values())
    parts = list(output) if isinstance(output, list | tuple) else [output]
    parts = [part for part in parts if isinstance(part, Tensor)]
    return [
        part
        for part in parts
        if part.ndim in (3, 4) and part.numel() and not any(part is each for each in given)
    ]


def to_chw(image: Tensor, aspect: float = 1.0) -> Tensor | None:
    """Return one image's output as float32 `C x h x w` on the CPU; None if it is not a map.

    Args:
        image: `C x h x w`, `h x w x C`, or `(h * w) x C` with up to EXTRA_LAYERS tokens before
            those of the grid.
        aspect: h / w of the canvas, which identifies the axes h and w; if it is ambiguous, channels
            come first as in torch.
    """
    if image.ndim == 2:
        width = int(sqrt(len(image) / aspect) + 1e-6)
        height = round(width * aspect)
        if not 0 <= len(image) - height * width <= EXTRA_LAYERS:
            return None
        image = image[len(image) - height * width :].T.unflatten(1, (height, width))
    elif image.shape[0] == image.shape[1] * aspect and image.shape[1] != image.shape[2] * aspect:
        image = image.permute(2, 0, 1)
    return image.float().nan_to_num(0.0, 0.0, 0.0).cpu()


def resolve_layers(net: nn.Module, layers: Sequence[str] | str | None, key: str) -> list[str]:
    """Check the names of layers against the network; None finds the last stage.

    Args:
        net: The classifier.
        layers: Names as in `named_modules`, or one; None is the last stage.
        key: Configuration key of `layers`, which errors name.

    Raises:
        UserError: The network does not have a name (the message names similar ones), a layer has no
            output, no name is given, or no stage can be found.
    """
    if layers is None:
        return [find_last_stage(net, key)]
    names = [layers] if isinstance(layers, str) else list(map(str, layers))
    if not names:
        raise UserError(f"{key}=[] names no layer; write null to use the last stage, or names")
    _refuse_silent_layers(net, names, key)
    return list(dict.fromkeys(names))


def find_last_stage(net: nn.Module, key: str) -> str:
    """Find the last stage of a network.

    It is the last one that timm lists in `feature_info`; in other networks it is the last child
    that holds a convolution, below modules with a single child.

    Args:
        net: The classifier.
        key: Configuration key of the layers, which errors name.

    Raises:
        UserError: There is no such layer.
    """
    if stages := _search_stage_layers(net):
        return list(stages.values())[-1]
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
        raise UserError(
            f"{key}=null finds no stage in {type(net).__name__}, which has no convolution; write"
            f" {key}=[NAME] with names such as {_outer_layers(net)}"
        )
    return path + holding[-1]


@contextmanager
def frozen_eval_mode(net: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode without gradients, and restore both afterwards."""
    training = [(module, module.training) for module in net.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    try:
        net.eval().requires_grad_(False)
        yield
    finally:
        for module, mode in training:
            module.training = mode  # not train(mode), which would change its children
        for parameter, flag in learning:
            parameter.requires_grad_(flag)
