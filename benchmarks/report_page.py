"""Page of a run with synthetic evidence: its size, and the time to write it and to open it.

python benchmarks/report_page.py [--images 2000] [--classes 1] [--kind mask|label] [--rounds 5]

Needs a Chromium of the system. Opening is timed from the navigation to the load event, and to the
first idle moment of the page.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import parts  # noqa: F401  (puts the repository on the path)
import torch
from playwright.sync_api import sync_playwright

from datamodules.loading.letterbox import ContentBox
from evaluation.evidence import ClassificationEvidence, Evidence, SegmentationEvidence
from evaluation.logit_histogram import logit_histograms
from evaluation.rule_modules import SegmentationRule
from reporting.case_images import map_side, render_case
from reporting.encoding import as_json
from reporting.page import build_page_data, write_page
from reporting.report_data import ReportInput, build_report
from reporting.task_view import TASK_VIEWS

SIDE = 256
COPIES = {"pairs": 0, "test_images": [], "examples": []}
DATA = {"phantom": True, "group_is": "patient", "splits": {}, "cleaning": {}, "leaks": []}
DATA |= {"near_duplicates": COPIES, "folder_leaks": {}, "split": "group"}
IDLE = "new Promise((done) => requestIdleCallback(() => done(performance.now())))"
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def maps(images: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return smooth logits with noise, and discs as truth; every fourth image has none."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    place = torch.rand(images, classes, 3, generator=random)
    middle, radius = 0.2 + 0.6 * place[..., :2], 0.03 + 0.12 * place[..., 2]
    distance = (
        (y - middle[..., 0, None, None]) ** 2 + (x - middle[..., 1, None, None]) ** 2
    ).sqrt() / radius[..., None, None]
    truth = (distance < 1) & (torch.arange(images)[:, None, None, None] % 4 > 0)
    noise = (
        torch.nn.functional.avg_pool2d(
            torch.randn(images, classes, SIDE, SIDE, generator=random), 7, 1, 3
        )
        * 6
    )
    return torch.where(truth, 4 - 4 * distance, -4 - distance.clamp(max=3)) + 2 * noise, truth.to(
        torch.uint8
    )


def mask_evidence(names: dict, images: int, classes: int) -> SegmentationEvidence:
    blocks = [
        (*maps(len(some), classes, seed=int(some[0])), len(some))
        for some in np.array_split(np.arange(images), max(1, images // 50))
    ]
    counts = np.concatenate(
        [
            logit_histograms(logits, truth, [ContentBox(0, 0, SIDE, SIDE)] * n).numpy()
            for logits, truth, n in blocks
        ]
    )
    return SegmentationEvidence(
        counts=counts,
        rule=np.tile((136.0, 0.0005, 124.0), (images, classes, 1)),
        grid=str(SIDE),
        **names,
    )


def label_evidence(names: dict, images: int, classes: int) -> ClassificationEvidence:
    random = np.random.default_rng(0)
    labels = (random.random((images, classes)) < 0.3).astype(np.uint8)
    logits = (1.5 * random.normal(size=(images, classes)) + 2 * labels - 1).astype(np.float32)
    return ClassificationEvidence(
        logits=logits, labels=labels, rule=np.tile((0.4, 1.3, 1.0), (images, classes, 1)), **names
    )


def with_pictures(evidence: Evidence, classes: int) -> list:
    kind = TASK_VIEWS[evidence.kind]
    found = kind.select_cases(evidence, 6)
    logits, truth = maps(len(found), classes, seed=7)
    gray = (100 + 12 * logits[:, :1] + 9 * torch.randn(logits[:, :1].shape)).clamp(0, 255).byte()
    batch, rule = (
        {"image": gray, "mask": truth, "content": [ContentBox(0, 0, SIDE, SIDE)] * len(found)},
        SegmentationRule(classes),
    )
    return [
        render_case(case, kind, batch, i, logits[i : i + 1], rule, map_side(found))
        for i, case in enumerate(found)
    ]


def opening(path: Path, rounds: int) -> list[tuple[float, float]]:
    """Return milliseconds to the load event and the first idle moment, in fresh contexts."""
    found = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for _ in range(rounds):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            tab = context.new_page()
            tab.goto(path.as_uri())
            found.append((tab.evaluate(LOADED), tab.evaluate(IDLE)))
            context.close()
        browser.close()
    return found


def main(images: int, classes: int, kind: str, rounds: int) -> None:
    ids = np.array([f"patient{i // 2:05d}/image_{i:06d}.png" for i in range(images)])
    names = {
        "ids": ids,
        "groups": np.array([id.split("/")[0] for id in ids]),
        "group_is": "patient",
    }
    names["classes"] = tuple(f"finding {c}" for c in range(classes))
    evidence = {"mask": mask_evidence, "label": label_evidence}[kind](names, images, classes)
    cases = with_pictures(evidence, classes)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        as_json(build_page_data(TASK_VIEWS[kind], evidence, cases))
        swept = time.process_time()
        found = build_report(
            ReportInput(
                "Synthetic", Path(folder), {"test": evidence}, [{"top": 0.5}] * classes, {}
            ),
            DATA,
        )
        scored = time.process_time()
        path = write_page(found, {"test": evidence}, cases, Path(folder))
        written = time.process_time()
        times = opening(path, rounds)
        print(
            f"{kind}, {images} images, {classes} class(es), {len(cases)} cases:"
            f" {path.stat().st_size / 1e6:.2f} MB"
        )
    print(
        f"CPU: what the script reads {swept - start:.2f} s, the whole page {written - scored:.2f} s"
        f" (scores with intervals {scored - swept:.2f} s)"
    )
    load, idle = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"opened: load event after {load:.0f} ms, idle after {idle:.0f} ms, medians of {rounds}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--kind", choices=("mask", "label"), default="mask")
    parser.add_argument("--rounds", type=int, default=5)
    main(**vars(parser.parse_args()))
