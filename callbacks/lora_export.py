"""Export of a network with adapters as a plain network with merged weights, after a test."""

from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer

from datamodules.arguments import FilePath, validated
from datamodules.errors import UserError
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier


@validated
class LoRAMergedExport(Callback):
    """Callback that writes `merged.pt`, a state_dict of the plain classifier without LoRA.

    `module.net.weights=PATH`, timm and torchvision can read it. The file does not contain the mean
    and std of the pixels, which are in report.json as `normalization`.

    Example:
        callbacks: {lora_export: {path: "${paths.run}/checkpoints/merged.pt"}}

    Args:
        path: File to write.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = Path(path)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file once, from the weights that were tested."""
        if not isinstance(pl_module.net, FrozenBackboneClassifier):
            raise UserError(
                "callbacks.lora_export needs a network with adapters; set module/net=lora, or"
                " remove"
                " the callback"
            )
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(pl_module.net.merge_adapters().state_dict(), self.path)
