"""Parameters and training speed of the encoders of module/net/encoder, beside resnet34.

Each round times a few training steps of a U-Net with every encoder in turn; printed is the median
over rounds of the speed relative to resnet34 in the same round. Random weights: they do not change
the speed.

python benchmarks/encoders.py [--size 256] [--batch 4] [--steps 2] [--rounds 3]
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch
import yaml

from lightning_modules.networks import build_smp_network

FOLDER = Path(__file__).parents[1] / "conf/module/net/encoder"
REFERENCE = "resnet34"


def build(name: str, size: int) -> torch.nn.Module:
    """Build a U-Net with the encoder of a file of the group."""
    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    encoder = {"name": settings["name"], "weights": None}
    net = build_smp_network("Unet", encoder, [size, size], in_channels=1, classes=1)
    return net.train()


def seconds_per_step(net: torch.nn.Module, size: int, batch: int, steps: int) -> float:
    """Return the time of a training step: forward, backward, no optimizer."""
    image = torch.randn(batch, 1, size, size)
    start = time.perf_counter()
    for _ in range(steps):
        net(image).square().mean().backward()
        net.zero_grad()
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    names = sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))
    nets = {name: build(name, args.size) for name in names}
    for net in nets.values():
        seconds_per_step(net, args.size, args.batch, 1)  # the first step allocates
    ratios: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(args.rounds):
        spent = {
            name: seconds_per_step(net, args.size, args.batch, args.steps)
            for name, net in nets.items()
        }
        for name in names:
            ratios[name].append(spent[REFERENCE] / spent[name])
    for name in names:
        millions = sum(p.numel() for p in nets[name].encoder.parameters()) / 1e6
        print(f"{name:18} {millions:6.1f} M parameters  {median(ratios[name]):5.2f} x resnet34")


if __name__ == "__main__":
    main()
