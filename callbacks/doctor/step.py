"""Time a training step on one device in one precision, as Lightning takes it."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from lightning import Fabric

from datamodules.image_size import ImageSize
from lightning_modules.supervised import SupervisedModule

PIXELS = 2 * 256**2  # of a batch on a CPU, which is slow


@dataclass(frozen=True)
class StepBenchmark:
    """The setting of one measurement.

    Attributes:
        device: `cpu`, `cuda` or `mps`.
        index: Which of several.
        precision: As the Trainer's.
        images: A batch.
        image_size: Their canvas.
        channels: Of the images.
    """

    device: str
    index: int
    precision: str
    images: int
    image_size: ImageSize
    channels: int


def batch_size(asked: int, size: ImageSize, device: str) -> int:
    """Return the batch size asked for; on a CPU at most the larger of two and what fits `PIXELS`.

    Batch normalisation needs two.
    """
    return asked if device != "cpu" else min(asked, max(2, PIXELS // (size.height * size.width)))


def step_images_per_second(
    module: SupervisedModule, setting: StepBenchmark, seconds: float
) -> float:
    """Return the images a second of forward, loss, backward and optimizer on a batch of noise.

    The batch is on the device already; the rate is of the median step after a warm-up.

    Args:
        module: Left as it is.
        setting: What to measure.
        seconds: Within which to stop, warm-up included; two steps are always taken.
    """
    devices = 1 if setting.device == "cpu" else [setting.index]
    fabric = Fabric(accelerator=setting.device, devices=devices, precision=setting.precision)  # type: ignore[arg-type]
    own = copy.deepcopy(module).train()
    optimizer = own.optimizer(
        [parameter for parameter in own.parameters() if parameter.requires_grad]
    )
    learner, optimizer = fabric.setup(own, optimizer)
    batch = _random_batch(module, setting, fabric.device)

    def step() -> None:
        with fabric.autocast():  # on one device Fabric puts only `forward` into the precision
            loss = learner.training_step(batch, 0)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        float(loss.detach())  # waits for the device

    return setting.images / _median_seconds(step, seconds)


def _random_batch(
    module: SupervisedModule, setting: StepBenchmark, device: torch.device
) -> dict[str, Any]:
    random, images, size = torch.Generator().manual_seed(0), setting.images, setting.image_size
    classes = len(getattr(module, "classes", ["lesion"]))
    batch: dict[str, Any] = {
        "image": torch.randint(
            0, 256, (images, setting.channels, *size), dtype=torch.uint8, generator=random
        )
    }
    if module.target == "mask":
        batch["mask"] = torch.randint(
            0, 2, (images, classes, *size), dtype=torch.uint8, generator=random
        )
    else:
        batch["label"] = torch.eye(max(2, classes))[
            torch.arange(images) % max(2, classes), :classes
        ]
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _median_seconds(step: Callable[[], None], seconds: float) -> float:
    taken: list[float] = []
    start = time.perf_counter()
    step()
    if time.perf_counter() - start < seconds / 4:
        step()  # the first one also chooses kernels
    while not taken or (len(taken) < 10 and time.perf_counter() - start < seconds):
        before = time.perf_counter()
        step()
        taken.append(time.perf_counter() - before)
    return median(taken)
