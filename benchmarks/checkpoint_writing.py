"""Time and memory of writing a checkpoint: ours (on the disk, then renamed) and Lightning's own.

The same without fsync shows what it costs that the file is on the disk before it is renamed.

python benchmarks/checkpoint_writing.py [--megabytes 100 313 1500] [--rounds 5] [--folder DIR]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import parts  # noqa: F401  (puts the repository on the path)
import psutil
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from lightning_modules.checkpoint_writer import DurableCheckpointIO


def make_checkpoint(megabytes: int) -> dict[str, dict[str, torch.Tensor]]:
    """Return a state_dict of some size, in tensors of at most 10 MB."""
    each = 2_500_000
    return {"state_dict": {f"{n}": torch.rand(each) for n in range(max(1, megabytes // 10))}}


def measure(write: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of a call, and by how many MB the memory of this process grew."""
    process = psutil.Process()
    before = peak = process.memory_info().rss
    own_save = torch.save

    def watched_save(*args: Any, **kwargs: Any) -> None:
        nonlocal peak
        own_save(*args, **kwargs)
        peak = max(peak, process.memory_info().rss)

    torch.save = watched_save
    try:
        start = time.perf_counter()
        write()
        seconds = time.perf_counter() - start
    finally:
        torch.save = own_save
    return seconds, (peak - before) / 1e6


class WithoutFsync(DurableCheckpointIO):
    """Our writer on a disk that says at once that it has everything."""

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save without `os.fsync`."""
        own, os.fsync = os.fsync, lambda descriptor: None
        try:
            super().save_checkpoint(*args, **kwargs)
        finally:
            os.fsync = own


def main(asked: argparse.Namespace) -> None:
    """Measure in pairs and print the medians."""
    writers = {
        "Lightning": TorchCheckpointIO(),
        "ours": DurableCheckpointIO(),
        "ours without fsync": WithoutFsync(),
    }
    for megabytes in asked.megabytes:
        content = make_checkpoint(megabytes)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in writers}
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            for _ in range(asked.rounds):
                for name, writer in writers.items():
                    path = Path(folder) / f"{name}.ckpt"
                    found[name].append(measure(partial(writer.save_checkpoint, content, path)))
        seconds = {name: statistics.median(s for s, _ in each) for name, each in found.items()}
        ratios = [a[0] / b[0] for a, b in zip(found["ours"], found["Lightning"], strict=True)]
        memory = {name: statistics.median(m for _, m in each) for name, each in found.items()}
        print(
            f"{megabytes} MB: "
            + ", ".join(f"{name} {seconds[name]:.2f} s, {memory[name]:.0f} MB" for name in writers)
            + f"; ratio {statistics.median(ratios):.2f} (median of {asked.rounds} pairs)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 313, 1500])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="folder to write to, on the disk to be measured")
    main(parser.parse_args())
