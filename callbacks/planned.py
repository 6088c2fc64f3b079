"""What each stretch of epochs samples."""

from itertools import groupby
from typing import Any

from lightning import Trainer

from datamodules.plan import EpochConfig


def sampling_schedule(data: Any, trainer: Trainer) -> list[tuple[range, EpochConfig]]:
    """Return stretches of epochs and the plan of each.

    Stages that may end early count with their full length.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    curriculum = next((each for each in callbacks if hasattr(each, "stages")), None)
    if curriculum is None:
        plans = [data.epoch_config(epoch) for epoch in range(max(1, trainer.max_epochs or 1))]
    else:
        plans = [
            stage.epoch_config(data.base_epoch_config, epoch)
            for stage in curriculum.stages
            for epoch in range(stage.epochs)
        ]
    spans = [list(span) for _, span in groupby(range(len(plans)), lambda epoch: plans[epoch])]
    return [(range(span[0], span[-1] + 1), plans[span[0]]) for span in spans]
