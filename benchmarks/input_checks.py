"""Cost of checking input: PNGs by their checksums, and checkpoints before they are read.

python benchmarks/input_checks.py [--rounds 5]

An image is checked when it is decoded into the cache, once for a data set; a checkpoint when it is
tested or resumed. Times are of the processor; the ratio is that of pairs.
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import parts  # noqa: F401  (puts the repository on the path)
import torch
from PIL import Image

from datamodules.formats import image_io
from datamodules.formats.image_io import ImageReader
from lightning_modules import checkpoint_io, checkpoint_schema
from lightning_modules.checkpoint_writer import write_tensors

SIDES = (640, 2048)  # pixels
MEGABYTES = 313  # a UNet++ with ResNet-34 and the state of AdamW


def film(side: int) -> bytes:
    """Return a PNG with smooth structures and noise, which packs like a radiograph."""
    rng = np.random.default_rng(0)
    grid = np.add.outer(np.sin(np.linspace(0, 9, side)), np.cos(np.linspace(0, 7, side)))
    pixels = 128 + 50 * grid + rng.normal(size=(side, side)) * 3
    data = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "PNG")
    return data.getvalue()


def seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(
    name: str, checked: Callable[[], object], unchecked: Callable[[], object], rounds: int
) -> None:
    """Print the medians of pairs."""
    pairs = [(seconds(checked), seconds(unchecked)) for _ in range(rounds)]
    with_check, without = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{name}: {with_check:.3f} s with, {without:.3f} s without the check; ratio {ratio:.2f}")


def main(rounds: int) -> None:
    """Measure images and a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            path = Path(folder) / f"{side}.png"
            path.write_bytes(film(side))

            def read(path: Path = path) -> None:
                for _ in range(20):
                    ImageReader().read(path, 1)

            def read_unchecked(read: Callable[[], None] = read) -> None:
                with patch.object(image_io, "find_png_damage", lambda data: ""):
                    read()

            megabytes = path.stat().st_size / 1e6
            measure(f"20 PNGs of {side} px ({megabytes:.1f} MB each)", read, read_unchecked, rounds)
        path = Path(folder) / "a.ckpt"
        write_tensors(path, {"state_dict": {f"{n}": torch.rand(250_000) for n in range(MEGABYTES)}})

        def load() -> None:
            checkpoint_schema._damage.cache_clear()
            checkpoint_io.read_checkpoint(path)

        def load_unchecked() -> None:
            torch.load(path, weights_only=True)

        measure(f"a checkpoint of {MEGABYTES} MB", load, load_unchecked, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args().rounds)
