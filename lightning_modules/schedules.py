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
    _ = trainer.estimated_stepping_batches  # loads the data, so that the number of batches is known
    # once an epoch, but counted in steps: Lightning then steps it before the epoch's checkpoint is written, not behind it
    every = max(1, int(trainer.num_training_batches))
    return {"scheduler": scheduler, "monitor": monitor["name"], "interval": "step", "frequency": every, "strict": False}


def warmup_cosine(optimizer: Optimizer, trainer: Trainer, monitor: Mapping[str, str], warmup: float = 0.05, final: float = 0.01) -> dict[str, Any]:
    """Rises linearly over the first `warmup` of all steps, then falls along a cosine to `final` times the rate."""
    total = max(1, int(trainer.estimated_stepping_batches))
    rising = max(1, round(warmup * total))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = min(1.0, (step - rising) / max(1, total - rising))
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
