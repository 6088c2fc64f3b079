"""Cost of surface distances in a test beside the network's forward pass, and their memory.

The masks are ellipses at 512 px whose prediction is moved and deformed; every sixth image shows
nothing and every seventh is predicted empty. Forward pass, histograms alone, and histograms with
distances are timed in turn, a batch at a time, with UNet++ ResNet-34 from scratch. Then all images
are measured at once, and the peak memory after a tenth and after all of them is printed.

python benchmarks/surface_distance.py [--images 1000] [--rounds 5] [--batch 8] [--size 512]
"""

import argparse
import resource
import statistics
from functools import partial
from types import SimpleNamespace

import parts  # noqa: F401  (puts the repository on the path)
import segmentation_models_pytorch as smp
import torch
from evidence import seconds

from datamodules.loading.letterbox import ContentBox
from lightning_modules.hardware import tune_malloc
from lightning_modules.losses import BCELoss
from lightning_modules.segmentation import SegmentationModule


def make_batch(start: int, images: int, size: int) -> tuple[torch.Tensor, dict]:
    """Return logits and a batch of images `start` and following."""
    random = torch.Generator().manual_seed(start)
    y, x = torch.meshgrid(*[torch.arange(size) / size] * 2, indexing="ij")

    def ellipse(center: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
        return ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2

    logits, truth = [], []
    for number in range(start, start + images):
        center, radii = (torch.rand((2, 2), generator=random) * 0.5 + 0.2).unbind()
        moved = center + 0.03 * torch.randn(2, generator=random)
        widened = radii * 0.3 * (1 + 0.1 * torch.randn(2, generator=random))
        truth.append((ellipse(center, radii * 0.3) < 1) & (number % 6 > 0))
        logits.append(torch.where(ellipse(moved, widened) < 1, 3.0, -3.0) - 9.0 * (number % 7 == 0))
    ids = [f"case{number:06d}" for number in range(start, start + images)]
    content = [ContentBox(0, 0, size, size)] * images
    batch = {"id": ids, "group": ids, "truth": torch.stack(truth)[:, None].byte()}
    return torch.stack(logits)[:, None], batch | {"content": content}


def make_module() -> SegmentationModule:
    """Return a module with UNet++ that is ready for a test."""
    net = smp.UnetPlusPlus("resnet34", encoder_weights=None, in_channels=1).eval()
    module = SegmentationModule(
        classes=["lesion"], net=net, loss=BCELoss(), optimizer=partial(torch.optim.SGD, lr=0.1)
    ).eval()
    module.trainer = SimpleNamespace(datamodule=SimpleNamespace(test_spacing=None))
    module.on_test_epoch_start()
    return module


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    tune_malloc()
    module = make_module()
    image = torch.randint(0, 256, (args.batch, 1, args.size, args.size), dtype=torch.uint8)
    module(image)
    module.update_predictions(*make_batch(0, args.batch, args.size), "test")
    times: dict[str, list[float]] = {"forward": [], "histograms": [], "with distances": []}
    for number in range(args.rounds):
        given = make_batch(number * args.batch, args.batch, args.size)
        times["forward"].append(seconds(lambda: module(image)))
        for name, stage in (("histograms", "val"), ("with distances", "test")):
            module._collector.collect()
            times[name].append(
                seconds(lambda stage=stage, given=given: module.update_predictions(*given, stage))
            )
    for name, each in times.items():
        print(f"{name:>15}: {1000 * statistics.median(each) / args.batch:7.2f} ms an image")
    extra = [
        (with_distances - without) / forward
        for forward, without, with_distances in zip(*times.values(), strict=True)
    ]
    print(f"distances: {100 * statistics.median(extra):.1f} % of the forward pass (goal: 10)")

    module._collector.collect()
    peaks = []
    for start in range(0, args.images, args.batch):
        module.update_predictions(*make_batch(start, args.batch, args.size), "test")
        peaks.append(peak_mb())
    print(
        f"peak memory: {peaks[len(peaks) // 10]:.0f} MB after a tenth of {args.images} images,"
        f" {peaks[-1]:.0f} MB after all"
    )


if __name__ == "__main__":
    main()
