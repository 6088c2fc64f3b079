"""Heat maps of a classifier: images per second of a plain loop and of this repository.

The plain loop is the public bone-scan project's, image by image: fp32, a forward for the
probability, then GradCAM of the grad-cam library, which goes forward again and back through the
whole network. This repository takes a batch at a time, in the forward of the prediction. Both end
with a map at canvas size. Weights are random, which costs the same. `--plain-batch 8` hands the
library batches, too: what is left of the ratio is its second forward and its way back to the input.

python benchmarks/cams.py [--net resnetrs50] [--canvas 1024 512] [--method GradCAM] [--batch 8]
[--images 8] [--precision auto] [--rounds 3] [--plain-batch 1]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import parts  # noqa: F401
import pytorch_grad_cam
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from lightning_modules.hardware import best_precision
from lightning_modules.networks.classification import find_head
from lightning_modules.networks.introspection import find_last_stage
from weak_supervision.cam import ClassActivationMaps, upsample

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = timm.create_model(name, in_chans=3, num_classes=1).eval()
    # else the maps of random weights may be all zero, and agree for no reason
    find_head(net)[1].weight.data.abs_()
    return net.to(DEVICE)


def plain(net: nn.Module, images: torch.Tensor, method: str, batch: int) -> np.ndarray:
    """Compute the maps by calls of the library, as public loops do image by image."""
    found = []
    layer = net.get_submodule(find_last_stage(net, "layer"))
    with getattr(pytorch_grad_cam, method)(net, [layer]) as cam:
        for part in images.split(batch):
            part = part.to(DEVICE)
            with torch.no_grad():
                net(part).sigmoid().tolist()
            found.append(cam(part, [ClassifierOutputTarget(0)] * len(part)))
    return np.concatenate(found)


def ours(
    net: nn.Module, images: torch.Tensor, maps: ClassActivationMaps, batch: int, bf16: bool
) -> np.ndarray:
    """Compute the maps batch by batch, as the prediction loop of Lightning does."""
    found = []
    with torch.no_grad(), maps.recording(net) as listener:
        for part in images.split(batch):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
                logits = net(part.to(DEVICE).contiguous(memory_format=torch.channels_last))
            logits.float().sigmoid().tolist()
            found.append(upsample(listener.compute(), images.shape[2:]))
    return np.concatenate(found)


def rate(make: Callable[[], np.ndarray], images: int) -> float:
    start = time.perf_counter()
    make()
    return images / (time.perf_counter() - start)


def stretched(maps: np.ndarray) -> np.ndarray:
    low = maps.min((1, 2), keepdims=True)
    return (maps - low) / (maps.max((1, 2), keepdims=True) - low + 1e-7)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", default="resnetrs50")
    parser.add_argument(
        "--canvas", type=int, nargs=2, default=[1024, 512], metavar=("HEIGHT", "WIDTH")
    )
    parser.add_argument("--method", default="GradCAM")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain-batch", type=int, default=1)
    args = parser.parse_args()
    precision = best_precision("auto") if args.precision == "auto" else args.precision
    images = torch.rand(args.images, 3, *args.canvas)
    theirs, own, maps = (
        made(args.net),
        made(args.net).to(memory_format=torch.channels_last),
        ClassActivationMaps(args.method),
    )

    def loop() -> np.ndarray:
        return plain(theirs, images, args.method, args.plain_batch)

    def batched() -> np.ndarray:
        return ours(own, images, maps, args.batch, precision.startswith("bf16"))

    difference = np.abs(stretched(loop()) - stretched(batched())).mean()  # which also warms up
    print(
        f"{args.net}, {args.method}, {args.canvas[0]} x {args.canvas[1]}, {torch.get_num_threads()}"
        f" threads, {DEVICE.type}; ours {precision}"
    )
    print(f"the maps differ by {difference:.4f} on average, of 0..1")
    rates = []
    for _ in range(args.rounds):
        rates.append((rate(loop, args.images), rate(batched, args.images)))
        print(
            f"plain loop {rates[-1][0]:7.2f} images/s   ours {rates[-1][1]:7.2f} images/s   ratio"
            f" {rates[-1][1] / rates[-1][0]:.2f}"
        )
    print(
        "median ratio of paired rounds"
        f" {statistics.median(after / before for before, after in rates):.2f}"
    )


if __name__ == "__main__":
    main()
