"""Optimizers and learning-rate schedules: parameter groups, warm-up, plateau, one cycle."""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

from lightning import Trainer
from pydantic import Field
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from datamodules.arguments import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    check_value,
    validated,
)
from lightning_modules.networks.encoder import rate_factors

PROGRESS_KEYS = {  # keys of a schedule's state that hold its progress
    *("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial"),
    *("best", "num_bad_epochs", "cooldown_counter"),
}


def check_optimizer(optimizer: Callable[..., Any]) -> None:
    """Check the numbers of an optimizer before a run makes it; torch accepts `true` as 1.

    Args:
        optimizer: Partial of an optimizer of torch, or of another library whose arguments have
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
            else NonNegativeFloat
            if isinstance(default, int | float)
            else None
        )
        kind = (
            float
            if isinstance(kind, type(NonNegativeFloat))
            and isinstance(default, int | float)
            and default < 0
            else kind
        )
        if isinstance(default, tuple) and all(
            isinstance(number, int | float) for number in default
        ):
            kind = Annotated[
                Sequence[NonNegativeFloat], Field(min_length=len(default), max_length=len(default))
            ]
        if kind is not None:
            check_value(f"optimizer.{name}", value, kind)


def build_param_groups(
    net: nn.Module,
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    encoder_lr_mult: float = 1.0,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Group all parameters that require a gradient by their learning rate, the lowest first.

    Args:
        net: The network.
        named_parameters: The module's parameters; the net's names start with `net.`.
        encoder_lr_mult: As in `rate_factors`.
        layer_decay: As in `rate_factors`.

    Returns:
        Groups with `params` and `lr_factor`, a factor of the optimizer's rate.

    Raises:
        UserError: The encoder or the depths of its layers are unknown.
    """
    factors = rate_factors(net, encoder_lr_mult, layer_decay)
    found: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named_parameters:
        name = name.replace("_fsdp_wrapped_module.", "").removeprefix("net.")
        if parameter.requires_grad:
            found.setdefault(factors.get(name, 1.0), []).append(parameter)
    return [
        {"params": parameters, "lr_factor": factor} for factor, parameters in sorted(found.items())
    ]


def apply_hyperparameters(
    configured: Any, optimizer: Any, scheduler: Any, lr_ratio: float = 1.0
) -> None:
    """Set new hyperparameters in a restored optimizer and schedule, and keep their progress.

    The learning rate becomes the new one times the factor that the schedule had reached.

    Args:
        configured: Result of `configure_optimizers`: an optimizer, or a dictionary with `optimizer`
            and `lr_scheduler`.
        optimizer: The restored optimizer.
        scheduler: The restored schedule, or None.
        lr_ratio: Initial rate of the restored optimizer, as a multiple of the new one; schedules
            such as plateau do not store it.
    """
    new = configured["optimizer"] if isinstance(configured, dict) else configured
    for restored, fresh in zip(optimizer.param_groups, new.param_groups, strict=True):
        start = restored.get("initial_lr") or fresh["lr"] * lr_ratio
        done = restored["lr"] / start if start else 1.0
        restored.update(
            {name: value for name, value in fresh.items() if name not in ("params", "lr")}
        )
        restored["lr"] = fresh.get("initial_lr", fresh["lr"]) * done
    if scheduler is not None:
        state = configured["lr_scheduler"]["scheduler"].state_dict()
        scheduler.load_state_dict(
            scheduler.state_dict()
            | {name: value for name, value in state.items() if name not in PROGRESS_KEYS}
        )


EpochRange = range | None
STEP_DEPENDENT_SCHEDULES = (
    "warmup_cosine",
    "one_cycle",
)  # schedules that depend on the number of steps of the fit
Unchecked = Any  # arguments of the module, which need no check because the user does not set them
PositiveFraction = Annotated[float, Field(gt=0, le=1)]


@validated
def plateau(
    optimizer: Unchecked,
    trainer: Unchecked,
    monitor: Unchecked,
    span: Unchecked = None,
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    patience: NonNegativeInt = 5,
) -> dict[str, Any]:
    """Multiply the rate by `factor` when the score has not improved for `patience` epochs."""
    mode: Literal["min", "max"] = "max" if monitor.mode == "max" else "min"
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    # once per epoch, but counted in steps, so that Lightning steps it before it writes the epoch's
    # checkpoint, not after
    counted = {
        "interval": "step",
        "frequency": batches_per_epoch(trainer, span.start if span else None),
    }
    return {"scheduler": scheduler, "monitor": monitor.name, "strict": False, **counted}


@validated
def warmup_cosine(
    optimizer: Unchecked,
    trainer: Unchecked,
    monitor: Unchecked,
    span: Unchecked = None,
    warmup: Fraction = 0.05,
    final: Fraction = 0.01,
) -> dict[str, Any]:
    """Raise the rate linearly for `warmup` of all steps, then lower it by a cosine to `final`."""
    total = total_steps(trainer, span)
    rising = max(1, round(warmup * total))

    def lr_factor(step: int) -> float:
        """Return the factor of the learning rate at a step."""
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total - rising))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return {"scheduler": LambdaLR(optimizer, lr_factor), "interval": "step"}


@validated
def one_cycle(
    optimizer: Unchecked,
    trainer: Unchecked,
    monitor: Unchecked,
    span: Unchecked = None,
    warmup: Fraction = 0.3,
    start: PositiveFraction = 0.04,
    final: PositiveFraction = 4e-6,
) -> dict[str, Any]:
    """Make the one-cycle schedule (Smith 2018), stepped per batch: up from `start`, to `final`.

    Both are multiples of the rate, which is reached after the fraction `warmup` of all steps.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    total = max(2, total_steps(trainer, span))
    scheduler = OneCycleLR(
        optimizer,
        highest,
        total_steps=total,
        pct_start=warmup,
        div_factor=1 / start,
        final_div_factor=start / final,
    )
    return {"scheduler": scheduler, "interval": "step"}


def batches_per_epoch(trainer: Trainer, epoch: int | None = None, data: Any = None) -> int:
    """Return the number of training batches of an epoch on this rank; None is the running epoch.

    `data` is the data module if the trainer does not have it yet. The number comes from the data,
    because `trainer.estimated_stepping_batches` would start the loaders before a checkpoint is
    restored, and a resumed run would get the batches of another epoch.
    """
    data = data or trainer.datamodule  # type: ignore[attr-defined]
    batches = data.batches(trainer.world_size, trainer.current_epoch if epoch is None else epoch)
    limit = trainer.limit_train_batches
    return max(1, min(batches, limit) if isinstance(limit, int) else int(batches * limit))


def total_steps(trainer: Trainer, span: EpochRange = None, data: Any = None) -> int:
    """Return the number of optimizer steps in the epochs of `span`, or in the whole fit if None.

    `data` is as in `batches_per_epoch`.
    """
    if span is None and trainer.max_steps > 0:
        return trainer.max_steps
    epochs = span or range(max(1, trainer.max_epochs or 1))
    return sum(
        math.ceil(batches_per_epoch(trainer, epoch, data) / trainer.accumulate_grad_batches)
        for epoch in epochs
    )
