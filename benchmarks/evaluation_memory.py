"""Peak memory of evaluations of more and more images, beside the evidence that they keep.

Memory may grow by that evidence alone.

A real validation by Lightning of a SegmentationModule with a network of one convolution, on noise
that is made batch by batch; each number of images in a fresh process. Bytes an image are the peak
(VmHWM) less that of the smallest number of images, by the images more.

python benchmarks/evaluation_memory.py [--images 1000 10000 50000] [--classes 1] [--size 64]
[--batch 32]
"""

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import parts  # noqa: F401  (puts the repository on the path)
import torch
import yaml
from lightning import Callback, LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from callbacks.threshold_search import SegmentationThresholdSearch
from datamodules.loading.dataset import Sample, collate
from datamodules.loading.letterbox import ContentBox
from evaluation.bootstrap import bootstrap_metrics
from lightning_modules.hardware import tune_malloc
from lightning_modules.losses import BCELoss
from lightning_modules.segmentation import SegmentationModule


def peak() -> int:
    """Return the peak memory of this process in bytes."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


class Noise(IterableDataset):
    """Stream of noise images with a square lesion each, a batch at a time; nothing is kept."""

    def __init__(self, images: int, classes: int, size: int, batch: int) -> None:
        self.images, self.classes, self.size, self.batch = images, classes, size, batch

    def __iter__(self) -> Iterator[Sample]:
        random = torch.Generator().manual_seed(0)
        truth = torch.zeros((self.classes, self.size, self.size), dtype=torch.uint8)
        truth[:, : self.size // 4, : self.size // 4] = 1
        content = ContentBox(0, 0, self.size, self.size)
        for start in range(0, self.images, self.batch):
            ids = [
                f"case{number:06d}" for number in range(start, min(start + self.batch, self.images))
            ]
            image = torch.randint(
                0, 256, (len(ids), 1, self.size, self.size), dtype=torch.uint8, generator=random
            )
            yield collate(
                [
                    Sample(
                        id=id, group=id, image=image[i], mask=truth, truth=truth, content=content
                    )
                    for i, id in enumerate(ids)
                ]
            )


class Data(LightningDataModule):
    """Data module of the noise, with the table that a module needs."""

    def __init__(self, classes: list[str], noise: Noise) -> None:
        super().__init__()
        self.table = SimpleNamespace(classes=tuple(classes), group_is="patient")
        self.noise = noise

    def val_dataloader(self) -> DataLoader:
        """Return the batches as they come."""
        return DataLoader(self.noise, batch_size=None)


class Marked(SegmentationModule):
    """Segmentation module that records the peak memory so far at each step of an evaluation."""

    def collect_evidence(self, stage):
        """Collect as usual, then record the peak."""
        found = super().collect_evidence(stage)
        self.peaks["collected"] = peak()
        return found


class Mark(Callback):
    """Callback that records the peak after two batches, and in its turn after the last one.

    After two batches everything is in memory that does not grow.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def on_validation_batch_end(
        self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0
    ) -> None:
        """Reset the peak, which imports have raised, and record it after two batches."""
        if batch_idx <= 1:
            Path("/proc/self/clear_refs").write_text("5")
            pl_module.peaks["two batches"] = peak()

    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        """Record the peak; the module's own scores come after all callbacks."""
        pl_module.peaks[self.name] = peak()


def evaluate(images: int, classes: int, size: int, batch: int) -> dict[str, int]:
    """Run one validation, and the scores with intervals that a report makes of it.

    Returns:
        The peaks by step, and the bytes of the evidence.
    """
    tune_malloc()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    names = [f"class {number}" for number in range(classes)]
    module = Marked(
        classes=names,
        evaluation_size="native",
        net=nn.Conv2d(1, classes, 3, padding=1),
        loss=BCELoss(),
        optimizer=torch.optim.SGD,
    )
    module.peaks = {}
    grid = yaml.safe_load(
        (Path(__file__).parent.parent / "conf/experiment/upernet_pnx.yaml").read_text()
    )["callbacks"]["threshold_search"]
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
        "num_sanity_val_steps": 0,
    }
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[Mark("kept"), SegmentationThresholdSearch(**grid), Mark("rule searched")],
        **quiet,
    )
    trainer.validate(
        module, datamodule=Data(names, Noise(images, classes, size, batch)), verbose=False
    )
    module.peaks["scored"] = peak()
    evidence = module.evidence["val"]
    bootstrap_metrics(evidence)
    module.peaks["intervals"] = peak()
    own = sum(
        part.nbytes for part in (evidence.counts, evidence.ids, evidence.groups, evidence.rule)
    )
    return module.peaks | {"evidence": own}


def in_fresh_process(images: int, args: argparse.Namespace) -> dict[str, int]:
    words = (
        f"--images {images} --classes {args.classes} --size {args.size} --batch {args.batch} --here"
    ).split()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument(
        "--here", action="store_true", help="in this process, for one number of images"
    )
    args = parser.parse_args()
    if args.here:
        print(json.dumps(evaluate(args.images[0], args.classes, args.size, args.batch)))
        return
    found = {images: in_fresh_process(images, args) for images in sorted(args.images)}
    steps = [name for name in next(iter(found.values())) if name != "evidence"]
    print(
        f"peak in MB, {args.classes} class(es), {args.size} px\n{'images':>8}"
        + "".join(f"{name:>15}" for name in [*steps, "evidence"])
    )
    for images, peaks in found.items():
        print(
            f"{images:>8}" + "".join(f"{peaks[name] / 1e6:15.1f}" for name in [*steps, "evidence"])
        )
    (fewest, first), *more = found.items()
    print("bytes an image more, and as a multiple of the evidence's own")
    for images, peaks in more:
        each = {
            name: (peaks[name] - first[name]) / (images - fewest) for name in [*steps, "evidence"]
        }
        print(
            f"{images:>8}"
            + "".join(f"{each[name]:8,.0f} {each[name] / each['evidence']:5.2f}x" for name in steps)
            + f"{each['evidence']:15,.0f}"
        )


if __name__ == "__main__":
    main()
