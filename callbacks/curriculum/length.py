"""Tell Lightning the length of an epoch, which it would count only once a fit."""

from lightning import Trainer

from lightning_modules.schedules import batches_per_epoch


def set_epoch_length(trainer: Trainer) -> None:
    """Tell Lightning how many batches the running epoch has.

    Lightning counts them once a fit, but stages have epochs of their own length, and so has a share
    of positives that changes.
    """
    length = batches_per_epoch(trainer)
    loop = trainer.fit_loop
    if loop._combined_loader is not None:
        loop._combined_loader.limits = [length]
    loop.max_batches = trainer.val_check_batch = length
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau:
            config.frequency = length
