"""Measure step and loader in a process of its own, so that what kills it kills no doctor.

Command line: `python -m callbacks.doctor.measuring < CONFIG`.
"""

import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from callbacks.doctor import loader, step
from callbacks.doctor.devices import accelerator_kind, chosen_precision
from callbacks.doctor.machine import n_workers
from callbacks.doctor.network import build_network
from datamodules.image_size import ImageSize
from datamodules.loaders import default_num_workers
from lightning_modules.memory import tune_malloc
from lightning_modules.supervised import SupervisedModule

STEP_SECONDS = {"cpu": 3.0, "cuda": 1.5, "mps": 2.0}  # a step on one device in one precision
LOADER_SECONDS = 1.5
FULL_PRECISION = "32-true"
MAX_CPU_IMAGE_SIDE = 256  # longest side of the images that a CPU is measured with, in pixels


def main() -> None:
    """Read a resolved configuration from stdin, and print each measurement as a line of JSON.

    Lines are printed at once, so that they are kept if the process dies.
    """
    warnings.filterwarnings("ignore")
    tune_malloc()
    torch.set_float32_matmul_precision("high")
    cfg = OmegaConf.create(sys.stdin.read())
    assert isinstance(cfg, DictConfig)
    torch.backends.cudnn.benchmark = bool(cfg.trainer.benchmark)
    for line in (*measure_loaders(cfg), *measure_steps(cfg)):
        print(json.dumps(line), flush=True)


def image_size_on(cfg: DictConfig, device: str) -> ImageSize:
    """Return the size of the images; on a CPU a smaller one of the same shape."""
    asked = ImageSize.from_config(cfg.image_size)
    smaller = MAX_CPU_IMAGE_SIDE / max(asked)
    return (
        asked
        if device != "cpu" or smaller >= 1
        else ImageSize.from_config([max(32, round(side * smaller / 32) * 32) for side in asked])
    )


def measure_loaders(cfg: DictConfig) -> Iterator[dict[str, Any]]:
    """Yield `loader` lines (`workers`, `image_size`, `images_per_second`), or a `failed` one."""
    size, counts = (
        image_size_on(cfg, accelerator_kind(cfg)),
        sorted({0, default_num_workers(), n_workers(cfg)}),
    )
    try:
        for count, rate in loader.loader_images_per_second(cfg, size, counts, LOADER_SECONDS):
            yield {
                "line": "loader",
                "workers": count,
                "image_size": size.as_config,
                "images_per_second": rate,
            }
    except Exception as error:
        yield {"line": "failed", "of": "the loader", "why": short_error(error)}


def measure_steps(cfg: DictConfig) -> Iterator[dict[str, Any]]:
    """Yield `network` lines with a `device`, and `step` or `failed` lines of each setting.

    `step` lines have `images_per_second`.
    """
    built: dict[str, SupervisedModule] = {}
    for device, index in available_devices():
        if device not in built:
            built[device], said = build_network(cfg, device)
            yield {"line": "network", "device": device, **said}
        size, chosen = image_size_on(cfg, device), chosen_precision(cfg, device)
        images = step.batch_size(cfg.datamodule.batch_size, size, device)
        for precision in dict.fromkeys(
            (FULL_PRECISION, FULL_PRECISION if chosen == "32" else chosen)
        ):
            setting = step.StepBenchmark(
                device, index, precision, images, size, cfg.datamodule.channels
            )
            said_of = asdict(setting) | {"image_size": size.as_config}
            try:
                yield {
                    "line": "step",
                    **said_of,
                    "images_per_second": step.step_images_per_second(
                        built[device], setting, STEP_SECONDS[device]
                    ),
                }
            except Exception as error:
                yield {
                    "line": "failed",
                    **said_of,
                    "of": "a step",
                    "why": short_error(error),
                    "memory": isinstance(error, torch.OutOfMemoryError),
                }
            if device == "cuda":
                torch.cuda.empty_cache()


def available_devices() -> list[tuple[str, int]]:
    """List the devices that can be measured: the CPU, each GPU, MPS."""
    gpus = (
        [("cuda", index) for index in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else []
    )
    return [("cpu", 0), *gpus, *([("mps", 0)] if torch.backends.mps.is_available() else [])]


def short_error(error: Exception) -> str:
    """Format an exception in one line; of an OSError without the name of the file."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {' '.join(said.split())[:120]}"


if __name__ == "__main__":
    main()
