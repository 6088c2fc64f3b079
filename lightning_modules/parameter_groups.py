"""Learning rates by parameter: lower for the encoder than the rest, and lower for early layers."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from datamodules.arguments import NonNegative, Number, check_value
from datamodules.refusal import UserError

PROGRESS = {  # of a schedule's state: how far it has come
    *("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial"),
    *("best", "num_bad_epochs", "cooldown_counter"),
}


def check_optimizer(optimizer: Callable[..., Any]) -> None:
    """Check the numbers of an optimizer before it is made in the middle of a run.

    torch takes `true` for 1.

    Args:
        optimizer: A partial of an optimizer of torch, or of another library whose arguments have
            defaults.

    Raises:
        ArgumentError: A number is negative or not finite, or a switch is neither true nor false.
    """
    keywords = getattr(optimizer, "keywords", {})
    defaults = (
        {
            name: each.default
            for name, each in inspect.signature(
                getattr(optimizer, "func", optimizer)
            ).parameters.items()
        }
        if keywords
        else {}
    )
    for name, value in keywords.items():
        default = defaults.get(name)
        kind: Any = (
            bool
            if isinstance(default, bool)
            else NonNegative
            if isinstance(default, int | float)
            else None
        )
        kind = (
            Number
            if isinstance(kind, type(NonNegative))
            and isinstance(default, int | float)
            and default < 0
            else kind
        )
        if isinstance(default, tuple) and all(
            isinstance(number, int | float) for number in default
        ):
            kind = Annotated[
                Sequence[NonNegative], Field(min_length=len(default), max_length=len(default))
            ]
        if kind is not None:
            check_value(f"optimizer.{name}", value, kind)


def build_param_groups(
    net: nn.Module,
    named: Iterable[tuple[str, nn.Parameter]],
    encoder_lr_mult: float = 1.0,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Group all parameters that require a gradient by their learning rate, the lowest first.

    Args:
        net: The network; its `depth_of` is called if `layer_decay` is not 1.
        named: The module's parameters; the net's names start with `net.`.
        encoder_lr_mult: Learning rate of `net.encoder`, as a multiple of the others'.
        layer_decay: Learning rate of each layer of it, as a multiple of the layer's behind it (Bao
            et al. 2022, BEiT).

    Returns:
        Groups with `params` and `lr_factor`, by which the optimizer's rate is to be multiplied.

    Raises:
        Refusal: `layer_decay` of a network that does not say how deep its layers lie.
    """
    if layer_decay != 1.0 and not hasattr(net, "depth_of"):
        raise UserError(
            f"module.layer_decay={layer_decay} needs a network that knows its layers, such as"
            " upernet_swin; set module.layer_decay=1.0"
        )
    found: dict[float, list[nn.Parameter]] = {}
    deepest = net.depth_of("") if layer_decay != 1.0 else 0  # type: ignore[operator]
    for name, parameter in named:
        name = name.replace("_fsdp_wrapped_module.", "")
        if parameter.requires_grad:
            factor = encoder_lr_mult if name.startswith("net.encoder.") else 1.0
            if layer_decay != 1.0:
                factor *= layer_decay ** (deepest - net.depth_of(name.removeprefix("net.")))  # type: ignore[operator]
            found.setdefault(factor, []).append(parameter)
    return [
        {"params": parameters, "lr_factor": factor} for factor, parameters in sorted(found.items())
    ]


def apply_hyperparameters(wanted: Any, optimizer: Any, scheduler: Any, before: float = 1.0) -> None:
    """Give a restored optimizer and schedule new hyperparameters, and keep their progress.

    The learning rate becomes the new one times what the schedule had made of the old one so far.

    Args:
        wanted: What `configure_optimizers` returns: an optimizer, or a dictionary with `optimizer`
            and `lr_scheduler`.
        optimizer: The restored optimizer.
        scheduler: The restored schedule, or None.
        before: The rate with which the restored optimizer began, as a multiple of the new one; a
            schedule such as a plateau does not store it.
    """
    new = wanted["optimizer"] if isinstance(wanted, dict) else wanted
    for restored, fresh in zip(optimizer.param_groups, new.param_groups, strict=True):
        start = restored.get("initial_lr") or fresh["lr"] * before
        done = restored["lr"] / start if start else 1.0
        restored.update(
            {name: value for name, value in fresh.items() if name not in ("params", "lr")}
        )
        restored["lr"] = fresh.get("initial_lr", fresh["lr"]) * done
    if scheduler is not None:
        state = wanted["lr_scheduler"]["scheduler"].state_dict()
        scheduler.load_state_dict(
            scheduler.state_dict()
            | {name: value for name, value in state.items() if name not in PROGRESS}
        )
