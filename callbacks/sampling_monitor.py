"""Monitor of sampling: prints the schedule before training and logs which images were sampled."""

from collections import Counter
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from datamodules.sampling.config import EpochConfig
from datamodules.sampling.epoch_sampler import SamplingPool
from lightning_modules.losses import ClassBalancedBCELoss
from reporting.live_run import sampling_schedule
from reporting.tables import terminal_table

POSITIVE = "positive"


class SamplingMonitor(Callback):
    """Callback that logs `sampling/images`, `sampling/positive_fraction` and `sampling/<stratum>`.

    These are counted over all ranks from the batches that were trained on; strata are logged as
    fractions, and only if there are several.

    Example:
        callbacks: {sampling_monitor: {}}
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the sampling schedule, one line per range of equal epochs, if there are several."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        ids, pool = data.table.rows["id"].to_numpy()[data.pool.rows], data.pool
        self._kind = {
            id: (stratum, positive)
            for id, stratum, positive in zip(
                ids, pool.stratum.tolist(), pool.positive.tolist(), strict=True
            )
        }
        self._names = sorted(set(pool.stratum.tolist()))
        if trainer.is_global_zero:
            stretches = sampling_schedule(data, trainer)
            if len(stretches) > 1:  # a single one is in the summary of the run
                Console().print(_schedule_table(stretches, data.pool, trainer.world_size))
            for line in _class_weights(pl_module):
                Console().print(line)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count image names, without waiting for the device."""
        for id in batch["id"]:
            stratum, positive = self._kind[id]
            self._counts[stratum] += 1
            self._counts[POSITIVE] += positive

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the fractions of the images that were trained on."""
        counts = torch.tensor(
            [float(self._counts[name]) for name in (POSITIVE, *self._names)],
            device=pl_module.device,
        )
        positives, *strata = (
            trainer.strategy.reduce(counts, reduce_op="sum") if trainer.world_size > 1 else counts
        ).tolist()  # type: ignore[union-attr]
        images = max(1.0, sum(strata))
        shares = {name: number / images for name, number in zip(self._names, strata, strict=True)}
        known = {"images": images, "positive_fraction": positives / images} | (
            shares if len(shares) > 1 else {}
        )
        pl_module.log_dict(
            {f"sampling/{name}": value for name, value in known.items()}, rank_zero_only=False
        )
        self._counts.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of an unfinished epoch."""
        return {"counts": dict(self._counts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self._counts = Counter(state_dict["counts"])


def _class_weights(module: LightningModule) -> list[str]:
    """Describe the weights of each class's pixels in a balanced loss."""
    terms = [term for term in module.modules() if isinstance(term, ClassBalancedBCELoss)]
    return [
        f"loss: weight of a pixel of {name} {inside:.2f}, outside {outside:.2f}"
        for term in terms
        for name, (outside, inside) in zip(module.classes, term.weights.tolist(), strict=False)  # type: ignore[call-overload,arg-type]
    ]


def _schedule_table(
    stretches: list[tuple[range, EpochConfig]], pool: SamplingPool, world_size: int
) -> Table:
    title = (
        f"sampling of each epoch from {len(pool.rows)} train images, {int(pool.positive.sum())} of"
        " them positive"
    )
    table = terminal_table(title)
    for column in (
        "epochs",
        "size",
        "batch",
        "steps",
        "images",
        "positive",
        "different",
        "an image at most",
    ):
        table.add_column(column, justify="right")
    for epochs, plan in stretches:
        steps = pool.batches(plan, world_size)
        images = steps * plan.batch_size * world_size
        wanted = pool.sampling_fractions(plan) * images
        positive = f"{wanted[pool.positive].sum() / images:.3f}"
        times = int(np.ceil(wanted.max() - 1e-6))
        numbers = [
            plan.image_size,
            plan.batch_size,
            steps,
            images,
            positive,
            round(np.minimum(wanted, 1).sum()),
            f"{times}x",
        ]
        table.add_row(f"{epochs[0] + 1}-{epochs[-1] + 1}", *map(str, numbers))
    return table
