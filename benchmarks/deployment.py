"""Speed and memory of a bundle beside PyTorch, and time from the start of predict.py to its answer.

The networks are those of the published recipes with random weights, or that of a run. Each round
times all arms on the same batch, one after the other, and rounds give the ratios.

python benchmarks/deployment.py [--run RUN] [--rounds 15] [--batch 8] [--many 3000]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import parts  # noqa: F401  (puts the repository on the path)
import psutil
import torch

from deployment.bundle import write_bundle
from deployment.parity import TestImage
from deployment.predictor import Predictor
from deployment.trained_network import TrainedNetwork, load_trained_network
from tests.factories.trained_run import label_module, mask_module, write_run

UNETPP = {
    "_target_": "lightning_modules.networks.build_smp_network",
    "architecture": "UnetPlusPlus",
    "encoder": {"name": "resnet34", "weights": None},
    "in_channels": 1,
    "classes": 1,
}
EFFICIENTNET = {
    "_target_": "lightning_modules.networks.build_classifier",
    "library": "timm",
    "encoder": {"name": "tf_efficientnetv2_s", "weights": None},
    "classes": 1,
    "in_channels": 1,
}
NETWORKS = {
    "UNet++ r34 256": (mask_module(["lesion"], net=UNETPP), 256),
    "EfficientNetV2-S 384": (label_module(["ill"], net=EFFICIENTNET), 384),
}


def make_networks(folder: Path) -> dict[str, TrainedNetwork]:
    found = {}
    for name, (module, size) in NETWORKS.items():
        run = folder / name.replace(" ", "_")
        write_run(run, module, image_size=size, configured_size=size)
        found[name] = load_trained_network(run)
    return found


def make_images(folder: Path, number: int, size: int) -> list[Path]:
    folder.mkdir(parents=True)
    rng, paths = np.random.default_rng(0), []
    for n in range(number):
        coarse = rng.integers(0, 256, (16, 16)).astype(np.uint8)
        pixels = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        paths.append(folder / f"{n:05}.png")
        cv2.imwrite(str(paths[-1]), pixels)
    return paths


def as_test_image(trained: TrainedNetwork, path: Path) -> TestImage:
    predict = Predictor(trained.predict_logits, trained.preprocessing, trained.decision)
    loaded = predict.load(path)
    return TestImage(loaded.id, loaded.canvas, (loaded.box.height, loaded.box.width), path)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare_speed(trained: TrainedNetwork, bundle: Path, batch: int, rounds: int) -> None:
    """Print images per second of each arm, and the medians of the ratios of each round."""
    predict = Predictor.from_bundle(bundle)
    given = trained.preprocessing
    shape = (batch, given.channels, *given.image_size)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def bfloat16() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            trained.predict_logits(images)

    arms: dict[str, Callable[[], Any]] = {
        "bundle": lambda: predict.network(images),
        "torch fp32": lambda: trained.predict_logits(images),
        "torch bf16": bfloat16,
    }
    for arm in arms.values():
        arm()
    taken = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            taken[name].append(seconds(arm))
    for name, times in taken.items():
        print(f"  {name}: {batch / statistics.median(times):.1f} images/s")
    for other in ("torch fp32", "torch bf16"):
        ratios = [a / b for a, b in zip(taken[other], taken["bundle"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"  bundle / {other}: {middle:.2f} (quartiles {low:.2f} to {high:.2f})")


def measure_start(bundle: Path, image: Path, out: Path, rounds: int = 5) -> None:
    """Print the time of a whole process that predicts one image."""
    command = [sys.executable, str(bundle / "predict.py"), str(image), "--out", str(out)]
    taken = [seconds(lambda: subprocess.run(command, check=True, capture_output=True, cwd=out))]
    for _ in range(rounds):
        taken.append(
            seconds(lambda: subprocess.run(command, check=True, capture_output=True, cwd=out))
        )
    print(
        f"  start to first answer: {statistics.median(taken):.2f} s (first time {taken[0]:.2f} s)"
    )


def measure_memory(bundle: Path, images: Path, out: Path) -> None:
    """Print the resident memory of predict.py over many images."""
    command = [sys.executable, str(bundle / "predict.py"), str(images), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=images.parent)
    watched, samples = psutil.Process(process.pid), []
    table = out / "predictions.csv"
    while process.poll() is None:
        done = table.read_bytes().count(b"\n") - 1 if table.is_file() else 0
        if done > 0:
            samples.append((done, watched.memory_info().rss / 1e6))
        time.sleep(0.2)
    shown = [samples[round(i * (len(samples) - 1) / 5)] for i in range(6)]
    text = ", ".join(f"{done}: {rss:.0f}" for done, rss in shown)
    print(f"  resident memory in MB by images done: {text}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--many", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        networks = (
            {options.run.name: load_trained_network(options.run)}
            if options.run
            else make_networks(folder)
        )
        for number, (name, trained) in enumerate(networks.items()):
            print(name)
            size = max(trained.preprocessing.image_size)
            paths = make_images(folder / f"images{number}", 2, size)
            bundle = trained.folder / "bundle"
            if not options.run:
                bundle, _ = write_bundle(trained, [as_test_image(trained, each) for each in paths])
            out = folder / f"out{number}"
            out.mkdir()
            measure_start(bundle, paths[0], out)
            compare_speed(trained, bundle, options.batch, options.rounds)
            if options.many:
                make_images(folder / f"many{number}", options.many, 64)
                measure_memory(bundle, folder / f"many{number}", folder / f"many_out{number}")


if __name__ == "__main__":
    main()
