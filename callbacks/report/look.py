"""Runs the network again on the few images that are shown."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor


def can_run_locally(trainer: Trainer) -> bool:
    """Return whether a process can run the network alone; False if its weights are sharded."""
    return not isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy)


def predict_logits(trainer: Trainer, module: LightningModule, image: Tensor) -> Tensor:
    """Compute float32 logits `B x classes ...` on the CPU, in the precision of the test.

    Args:
        trainer: Sets the precision.
        module: Takes uint8 images `B x C x H x W`.
        image: uint8 `B x C x H x W`, or a single one without B.
    """
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        return module((image if image.dim() == 4 else image[None]).to(module.device)).float().cpu()
