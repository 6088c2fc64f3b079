"""Export of a network with adapters as a plain network with merged weights, after a test."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from datamodules.arguments import FilePath, validated
from datamodules.errors import UserError
from lightning_modules.checkpoint_writer import write_tensors
from lightning_modules.networks.encoder import has_adapters
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier


@validated
class LoRAMergedExport(Callback):
    """Callback that writes `merged.pt`, a state_dict of the plain network without LoRA.

    The library of the network can read it, and for a classifier `module.net.encoder.weights=PATH`.
    The file does not contain the mean and std of the pixels, which are in report.json as
    `normalization`.

    Example:
        callbacks: {lora_export: {path: "${paths.run}/checkpoints/merged.pt"}}

    Args:
        path: File to write.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = Path(path)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a network without adapters."""
        net: Any = pl_module.net
        if not (isinstance(net, FrozenBackboneClassifier) or has_adapters(net)):
            raise UserError(
                "callbacks.lora_export needs a network with adapters; set module.net.lora, such as"
                " {rank: 8, alpha: 16} (module/net=lora for a classifier), or remove the callback"
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file once, from the weights that were tested."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            from lightning_modules.networks.lora import merge_network  # peft takes a second

            net: Any = pl_module.net
            write_tensors(self.path, merge_network(net).state_dict())
