"""Learning-rate schedules as Lightning wants them: the scheduler, and when it steps.

Each spans the fit, or the epochs of `span`.
"""

import math
from typing import Annotated, Any, Literal

from lightning import Trainer
from pydantic import Field
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from datamodules.arguments import Fraction, Number, Whole, validated

Span = range | None
SPANNING = (
    "warmup_cosine",
    "one_cycle",
)  # schedules whose course depends on the number of steps of the fit
Given = Any  # by the module: what is not of the user needs no check
PositiveShare = Annotated[Number, Field(gt=0, le=1)]


@validated
def plateau(
    optimizer: Given,
    trainer: Given,
    monitor: Given,
    span: Given = None,
    factor: Annotated[Number, Field(gt=0, lt=1)] = 0.1,
    patience: Whole = 5,
) -> dict[str, Any]:
    """Multiply the rate by `factor` when the score has not improved for `patience` epochs."""
    mode: Literal["min", "max"] = "max" if monitor["mode"] == "max" else "min"
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    # once an epoch, but counted in steps: Lightning then steps it before it writes the epoch's
    # checkpoint, not after
    counted = {
        "interval": "step",
        "frequency": batches_per_epoch(trainer, span.start if span else None),
    }
    return {"scheduler": scheduler, "monitor": monitor["name"], "strict": False, **counted}


@validated
def warmup_cosine(
    optimizer: Given,
    trainer: Given,
    monitor: Given,
    span: Given = None,
    warmup: Fraction = 0.05,
    final: Fraction = 0.01,
) -> dict[str, Any]:
    """Rise linearly for `warmup` of all steps, then fall by a cosine to `final` times the rate."""
    total = total_steps(trainer, span)
    rising = max(1, round(warmup * total))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total - rising))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


@validated
def one_cycle(
    optimizer: Given,
    trainer: Given,
    monitor: Given,
    span: Given = None,
    warmup: Fraction = 0.3,
    start: PositiveShare = 0.04,
    final: PositiveShare = 4e-6,
) -> dict[str, Any]:
    """One cycle (Smith 2018), stepped per batch: up from `start`, then down to `final`.

    Both are multiples of the rate, which is reached within the share `warmup` of all steps.
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
    """Return the training batches of an epoch on this rank; of the running one if None.

    `data` is the data module before the trainer knows it.

    Asked of the data: `trainer.estimated_stepping_batches` would start the loaders before a
    checkpoint is restored, and a resumed run would see the batches of another epoch.
    """
    data = data or trainer.datamodule  # type: ignore[attr-defined]
    batches = data.batches(trainer.world_size, trainer.current_epoch if epoch is None else epoch)
    limit = trainer.limit_train_batches
    return max(1, min(batches, limit) if isinstance(limit, int) else int(batches * limit))


def total_steps(trainer: Trainer, span: Span = None, data: Any = None) -> int:
    """Return the optimizer steps of the epochs of `span`, or of the whole fit if None.

    `data` is as for `batches_per_epoch`.
    """
    if span is None and trainer.max_steps > 0:
        return trainer.max_steps
    epochs = span or range(max(1, trainer.max_epochs or 1))
    return sum(
        math.ceil(batches_per_epoch(trainer, epoch, data) / trainer.accumulate_grad_batches)
        for epoch in epochs
    )
