"""Monitor of a run's cost: seconds, images per second, peak memory, CPU and GPU utilization."""

import threading
import time
from statistics import median
from typing import Any

import joblib
import psutil
import torch
from lightning import Callback, LightningModule, Trainer

from datamodules.arguments import PositiveFloat, validated


@validated
class ResourceMonitor(Callback):
    """Callback that measures a run's cost: a thread samples utilization, and steps are counted.

    Images are counted over all processes, which have equal batch sizes; memory and utilization are
    those of this process.

    Example:
        callbacks: {resources: {every_seconds: 1.0}}

    Args:
        every_seconds: Seconds between two samples.
    """

    def __init__(self, every_seconds: PositiveFloat = 1.0) -> None:
        self.every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._fits = False
        self._cpu: list[float] = []
        self._gpu: list[float] = []
        self._peak_rss = 0
        self._peak_gpu = 0.0  # peak in bytes of earlier commands
        self._rates: list[float] = []
        self._images = 0
        self._train_seconds = 0.0
        self._fit_seconds = 0.0
        self._epoch_images = 0
        self._epoch_seconds = 0.0  # seconds of an unfinished epoch before an interruption
        self._epoch_start: float | None = None
        self._fit_start: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Record if a checkpoint that is loaded now is for training or for a test."""
        self._fits = stage == "fit"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock and the sampling thread."""
        self._fit_start = time.perf_counter()  # the time of earlier commands is in _fit_seconds
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._stop.clear()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        process = psutil.Process()
        cores = joblib.cpu_count()
        process.cpu_percent()
        while not self._stop.wait(self.every_seconds):
            self._cpu.append(process.cpu_percent() / cores)
            self._peak_rss = max(self._peak_rss, process.memory_info().rss)
            if torch.cuda.is_available():
                self._gpu.append(torch.cuda.utilization())

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an epoch that is resumed in its middle."""
        self._epoch_start = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of an epoch."""
        self._epoch_start, self._epoch_images, self._epoch_seconds = time.perf_counter(), 0, 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count images; the clock stops at the last step, before validation."""
        self._epoch_images += len(batch["id"]) * trainer.world_size
        if trainer.is_last_batch:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = self._seconds_of_epoch()
            self._train_seconds += seconds
            self._images += self._epoch_images
            self._rates.append(self._epoch_images / seconds)
            self._epoch_start, self._epoch_images, self._epoch_seconds = None, 0, 0.0

    def _seconds_of_epoch(self) -> float:
        """Return the seconds of the running epoch so far; 0 between two epochs."""
        return self._epoch_seconds + (
            time.perf_counter() - self._epoch_start if self._epoch_start is not None else 0.0
        )

    def _seconds_of_fit(self) -> float:
        return self._fit_seconds + (
            time.perf_counter() - self._fit_start if self._fit_start is not None else 0.0
        )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._fit_seconds, self._fit_start = self._seconds_of_fit(), None

    def state_dict(self) -> dict[str, Any]:
        """Return the costs so far as plain values, which a resumed fit continues."""
        return {
            "fit_seconds": self._seconds_of_fit(),
            "train_seconds": self._train_seconds,
            "images": self._images,
            "rates": list(self._rates),
            "epoch_images": self._epoch_images,
            "epoch_seconds": self._seconds_of_epoch(),
            "cpu": list(self._cpu),
            "gpu": list(self._gpu),
            "peak_rss": self._peak_memory(),
            "peak_gpu": self._peak_gpu_memory(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the counts of a checkpoint in a fit; a test starts from zero."""
        if not self._fits:
            return
        self._fit_seconds, self._train_seconds = (
            state_dict["fit_seconds"],
            state_dict["train_seconds"],
        )
        self._images, self._rates = state_dict["images"], list(state_dict["rates"])
        self._epoch_images, self._epoch_seconds = (
            state_dict["epoch_images"],
            state_dict["epoch_seconds"],
        )
        self._cpu, self._gpu = list(state_dict["cpu"]), list(state_dict["gpu"])
        self._peak_rss, self._peak_gpu = state_dict["peak_rss"], state_dict["peak_gpu"]

    def _peak_memory(self) -> int:
        return max(self._peak_rss, psutil.Process().memory_info().rss)

    def _peak_gpu_memory(self) -> float:
        return max(
            self._peak_gpu,
            float(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else 0.0,
        )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop the thread after an error too."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def as_dict(self) -> dict[str, Any]:
        """Return the costs for the report; empty if nothing was trained."""
        if not self._rates:
            return {}
        gpu = {
            "gpu_peak_memory_gb": self._peak_gpu_memory() / 1e9,
            "gpu_utilization_percent": median(self._gpu) if self._gpu else None,
        }
        return {
            "fit_seconds": self._fit_seconds,
            "train_seconds": self._train_seconds,
            "images_trained": self._images,
            "images_per_second": median(self._rates),
            "cpu_utilization_percent": median(self._cpu) if self._cpu else None,
            "peak_memory_gb": self._peak_memory() / 1e9,
        } | (gpu if torch.cuda.is_available() else {})
