"""Cost of evidence and rule search beside the validation forward pass, and error of the AP.

python benchmarks/evidence.py [--images 32] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import parts  # noqa: F401  (puts the repository on the path)
import segmentation_models_pytorch as smp
import torch
from sklearn.metrics import average_precision_score

from datamodules.loading.letterbox import ContentBox
from evaluation.bootstrap import bootstrap_metrics
from evaluation.evidence import SegmentationEvidence
from evaluation.logit_histogram import logit_histograms
from evaluation.rule_search import RuleGrid, search_segmentation_rule
from lightning_modules.hardware import tune_malloc


def evidence_of(names: np.ndarray, counts: np.ndarray, rule: np.ndarray) -> SegmentationEvidence:
    return SegmentationEvidence(
        ids=names, groups=names, counts=counts, rule=rule, classes=("lesion",), grid="native"
    )


def seconds(work: Callable) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def forward_against_evidence(images: int, rounds: int, truth_size: int) -> None:
    """Time UNet++ r34 at 256 px, its evidence at `truth_size`, and 62,500 rules on that."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = (
        smp.UnetPlusPlus("resnet34", encoder_weights=None, in_channels=1)
        .to(device, memory_format=torch.channels_last)
        .eval()
    )
    batches = [
        torch.randn(8, 1, 256, 256, device=device).to(memory_format=torch.channels_last)
        for _ in range(images // 8)
    ]
    truth = (torch.rand(8, 1, truth_size, truth_size, device=device) > 0.95).to(torch.uint8)
    content = [ContentBox(0, 0, 256, 256)] * 8
    grid = RuleGrid(
        np.linspace(100, 200, 50).astype(int),
        np.linspace(0, 0.05, 25),
        np.linspace(90, 190, 50).astype(int),
    )
    logits: list[torch.Tensor] = []
    counts: list[torch.Tensor] = []

    def forward() -> None:
        logits.clear()
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            logits.extend(net(batch) for batch in batches)

    def keep() -> None:
        counts.clear()
        counts.extend(logit_histograms(batch, truth, content) for batch in logits)

    def find() -> None:
        stacked = torch.cat(counts).cpu().numpy()
        names = np.arange(len(stacked)).astype(str)
        search_segmentation_rule(evidence_of(names, stacked, np.zeros((len(names), 1, 3))), grid)

    ratios, spent = [], []
    for round_ in range(rounds + 1):
        times = [seconds(work) for work in (forward, keep, find)]
        if round_:
            ratios.append((times[1] + times[2]) / times[0])
            spent.append(times)
    forward_s, keep_s, find_s = (statistics.median(column) for column in zip(*spent, strict=True))
    rules = len(grid.top) * len(grid.min_area) * len(grid.bottom)
    print(
        f"{images} images, truth {truth_size} px: forward {forward_s:.3f} s, evidence {keep_s:.4f}"
        f" s, {rules:,} rules {find_s:.4f} s; (evidence + search) / forward ="
        f" {100 * statistics.median(ratios):.2f} %"
    )


def search_alone() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 50, (1000, 1, 2, 256)).astype(np.int32)
    names = np.arange(1000).astype(str)
    evidence = evidence_of(names, counts, np.zeros((1000, 1, 3)))
    grid = RuleGrid(np.arange(100, 150), np.linspace(0, 0.05, 25), np.arange(90, 140))
    times = [seconds(lambda: search_segmentation_rule(evidence, grid)) for _ in range(5)]
    print(f"62,500 rules on 1,000 images: {statistics.median(times):.3f} s")


def average_precision() -> None:
    """Compare AP from bytes with the exact AP, on simulated logits of 40 images, rare lesions."""
    random = torch.Generator().manual_seed(0)
    truth = (torch.rand(40, 1, 96, 96, generator=random) > 0.97).to(torch.uint8)
    base = 3 * truth.float() - 4 + 2 * torch.randn(truth.shape, generator=random)
    for name, logits in {
        "as they are": base,
        "times 3": base * 3,
        "plus 5": base + 5,
        "minus 5": base - 5,
        "times 3 plus 5": base * 3 + 5,
    }.items():
        exact = average_precision_score(truth.numpy().ravel(), logits.numpy().ravel())
        counts = logit_histograms(logits, truth, [ContentBox(0, 0, 96, 96)] * 40).numpy()
        names = np.arange(40).astype(str)
        evidence = evidence_of(names, counts, np.tile([128.0, 0.0, 128.0], (40, 1, 1)))
        found = bootstrap_metrics(evidence, resamples=2)["lesion"]["average_precision"].value
        print(
            f"AP of logits {name:<15} exact {exact:.4f}  from bytes {found:.4f}  difference"
            f" {abs(exact - found):.4f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    tune_malloc()
    forward_against_evidence(args.images, args.rounds, 256)
    forward_against_evidence(args.images, args.rounds, 640)
    search_alone()
    average_precision()
