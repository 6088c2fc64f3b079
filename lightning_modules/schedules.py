"""Learning-rate schedules as Lightning wants them: the scheduler, and when it steps."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from lightning import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau


def plateau(optimizer: Optimizer, trainer: Trainer, monitor: Mapping[str, str], factor: float = 0.1, patience: int = 5) -> dict[str, Any]:
    """Multiplies the rate by `factor` when the monitored score has not improved for `patience` epochs."""
    mode: Literal["min", "max"] = "max" if monitor["mode"] == "max" else "min"
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
    # once an epoch, but counted in steps: Lightning then steps it before the epoch's checkpoint is written, not behind it
    counted = {"interval": "step", "frequency": batches_per_epoch(trainer)}
    return {"scheduler": scheduler, "monitor": monitor["name"], "strict": False, **counted}


def warmup_cosine(optimizer: Optimizer, trainer: Trainer, monitor: Mapping[str, str], warmup: float = 0.05, final: float = 0.01) -> dict[str, Any]:
    """Rises linearly over the first `warmup` of all steps, then falls along a cosine to `final` times the rate."""
    total = total_steps(trainer)
    rising = max(1, round(warmup * total))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total - rising))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def batches_per_epoch(trainer: Trainer) -> int:
    """Training batches of an epoch on this rank.

    Asked of the data: `trainer.estimated_stepping_batches` would start the loaders before a checkpoint is restored, and a
    resumed run would see the batches of another epoch.
    """
    batches = trainer.datamodule.batches(trainer.world_size)  # type: ignore[attr-defined]
    limit = trainer.limit_train_batches
    return max(1, min(batches, limit) if isinstance(limit, int) else int(batches * limit))


def total_steps(trainer: Trainer) -> int:
    """Optimizer steps of the whole fit."""
    if trainer.max_steps > 0:
        return trainer.max_steps
    return math.ceil(batches_per_epoch(trainer) / trainer.accumulate_grad_batches) * max(1, trainer.max_epochs or 1)
