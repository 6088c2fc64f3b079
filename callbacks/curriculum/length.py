"""Tells Lightning how long an epoch is, which it counts once a fit: a stage has epochs of its own length, and so has a rate that changes."""

from lightning import Trainer

from lightning_modules.schedules import batches_per_epoch


def tell_length(trainer: Trainer) -> None:
    """Lightning counts an epoch's batches once a fit; stages have epochs of their own length, and so has a rate that changes."""
    length = batches_per_epoch(trainer)
    loop = trainer.fit_loop
    if loop._combined_loader is not None:
        loop._combined_loader.limits = [length]
    loop.max_batches = trainer.val_check_batch = length
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau:
            config.frequency = length
