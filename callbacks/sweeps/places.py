"""Where trials can run at the same time: one a GPU, or shares of the CPU. Asks the driver and touches no GPU."""

import os
from dataclasses import dataclass

from omegaconf import DictConfig

from datamodules.refusal import UserError

VISIBLE_DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class DeviceSlot:
    """For one trial at a time.

    Attributes:
        gpu: What the trial sees as its only GPU, in the words of CUDA_VISIBLE_DEVICES; None leaves
            it as it is.
        threads: Of its CPU; None leaves it to PyTorch.
    """

    gpu: str | None = None
    threads: int | None = None


def device_slots(
    config: DictConfig, n_jobs: int | None, multi_process: bool = False
) -> list[DeviceSlot]:
    """As many places as trials may run at a time.

    Args:
        config: Of the sweep; trials of several processes run one at a time, with all GPUs.
        n_jobs: How many; None: one a GPU, else one.
        multi_process: Trials have several processes, whatever the sweep's own configuration says.

    Raises:
        Refusal: no number of trials, or several trials of several processes at a time.
    """
    if n_jobs is not None and n_jobs < 1:
        raise UserError(
            f"hydra.launcher.n_jobs={n_jobs} is no number of trials at a time; take 1 or more, or"
            " null"
        )
    if multi_process or config.trainer.devices not in (1, "1") or config.trainer.num_nodes != 1:
        if (n_jobs or 1) > 1:
            raise UserError(
                f"{n_jobs} trials at a time of several processes each (trainer.devices) would share"
                " devices; leave out n_jobs"
            )
        return [DeviceSlot()]
    gpus = _visible_gpus() if config.trainer.accelerator in ("auto", "gpu", "cuda") else []
    wanted = n_jobs or max(1, len(gpus))
    if gpus:
        return [DeviceSlot(gpu=gpus[number % len(gpus)]) for number in range(wanted)]
    return [
        DeviceSlot(threads=max(1, _available_cores() // wanted) if wanted > 1 else None)
        for _ in range(wanted)
    ]


def _visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(VISIBLE_DEVICES_VARIABLE)
    if named is not None:
        found = [gpu.strip() for gpu in named.split(",") if gpu.strip()]
    else:
        import pynvml

        try:
            pynvml.nvmlInit()
            found = [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
            pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            found = []
    return found


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
