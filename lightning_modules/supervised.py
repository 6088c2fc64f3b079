"""One net, one loss, one step: training, validation and test share it, whatever is learned."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules.sample import Sample
from lightning_modules.normalize import Normalize

Stage = Literal["train", "val", "test"]


class SupervisedModule(LightningModule):
    """A subclass says which target it learns and what it keeps of an evaluated batch.

    Args:
        net: From float `B x C x H x W` to logits.
        loss: From logits and target to one value an image, shape `B`.
        optimizer: Called with the parameters that require a gradient.
        scheduler: Called with the optimizer, the trainer and the monitor; gives Lightning's lr_scheduler dict, or None.
        monitor: `name` of the score that decides what is best, and its `mode`, `max` or `min`.
        mean: Per input channel, of pixels scaled to 0..1.
        std: Likewise.
        channels_last: Keep weights and images in that memory format; faster on recent CPUs and on tensor cores.
        compile: Compile the net with torch.compile.
        encoder_lr: Learning rate of `net.encoder`, as a multiple of the others'.
    """

    target: ClassVar[Literal["mask", "label"]]

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None = None,
        monitor: Mapping[str, str] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        channels_last: bool = True,
        compile: bool = False,
        encoder_lr: float = 1.0,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean or [0.0], std or [1.0])
        self.net = net
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.monitor = dict(monitor or {"name": "val/loss", "mode": "min"})
        self.encoder_lr = encoder_lr
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        if compile:
            self.net.compile()  # in place: the names in a checkpoint stay the same

    def forward(self, image: Tensor) -> Tensor:
        """uint8 images `B x C x H x W` to logits."""
        return self.net(self.normalize(image).contiguous(memory_format=self.memory_format))

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """The same on validation images, with evidence."""
        return self._step(batch, "val")

    def test_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """The same on test images, with evidence."""
        return self._step(batch, "test")

    def _step(self, batch: Sample, stage: Stage) -> Tensor:
        logits = self(batch["image"])
        each = self.loss(logits, batch[self.target])  # type: ignore[literal-required]
        loss = (each * batch["weight"]).mean() if "weight" in batch else each.mean()
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(each), sync_dist=True)
        if stage != "train":
            self.keep(logits, batch, stage)
        return loss

    def keep(self, logits: Tensor, batch: Sample, stage: Stage) -> None:
        """What an evaluation keeps of a batch; nothing here."""

    def configure_optimizers(self) -> Any:
        """Only what requires a gradient is optimized, so frozen and LoRA nets need nothing more."""
        optimizer = self.optimizer(self._parameter_groups())
        if self.encoder_lr != 1.0:
            optimizer.param_groups[0]["lr"] *= self.encoder_lr
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer, trainer=self.trainer, monitor=self.monitor)}

    def _parameter_groups(self) -> list[dict[str, Any]]:
        trained = {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}
        encoder = [parameter for name, parameter in trained.items() if self.encoder_lr != 1.0 and name.startswith("net.encoder.")]
        rest = [parameter for name, parameter in trained.items() if self.encoder_lr == 1.0 or not name.startswith("net.encoder.")]
        return [{"params": encoder}, {"params": rest}] if self.encoder_lr != 1.0 else [{"params": rest}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the random state, so that a resumed run draws the same dropout."""
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the random state back."""
        if "random_state" in checkpoint:
            torch.set_rng_state(checkpoint["random_state"])
