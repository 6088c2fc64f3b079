"""Time of the leaderboard over many runs: all read again, nothing changed, and one run added.

python benchmarks/leaderboard.py [--runs 500] [--images 100] [--rounds 3]
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import parts  # noqa: F401  (puts the repository on the path)
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from evaluation.bootstrap import bootstrap_metrics
from evaluation.evidence import (
    ClassificationEvidence,
    Evidence,
    SegmentationEvidence,
    write_evidence,
)
from reporting.file_io import write_json
from reporting.leaderboard import CACHE_FOLDER, write_leaderboard

CONF = Path(__file__).parents[1] / "conf"


def masks(images: int, skill: float, random: np.random.Generator) -> SegmentationEvidence:
    """Return evidence of lesions of the same sizes in every run, found better with more skill."""
    area = np.linspace(200, 3000, images).astype(int)
    counts = np.zeros((images, 1, 2, 256), np.int32)
    for i in range(images):
        inside = np.clip(random.normal(118 + 16 * skill, 25, area[i]), 0, 255).astype(int)
        outside = np.clip(random.normal(40, 18, 65536 - area[i]), 0, 255).astype(int)
        counts[i, 0, 0], counts[i, 0, 1] = (
            np.bincount(outside, minlength=256),
            np.bincount(inside, minlength=256),
        )
    names = np.array([f"image_{i:04d}.png" for i in range(images)])
    return SegmentationEvidence(
        ids=names,
        groups=names,
        counts=counts,
        rule=np.tile([128.0, 0.0, 128.0], (images, 1, 1)),
        classes=("lesion",),
        grid="native",
    )


def labels(images: int, skill: float, random: np.random.Generator) -> ClassificationEvidence:
    """Return label evidence: every other image is positive; three images per patient."""
    truth = (np.arange(images) % 2).astype(np.uint8)[:, None]
    logits = (random.normal(size=(images, 1)) + skill * (2.0 * truth - 1)).astype(np.float32)
    names, patients = (
        np.array([f"image_{i:04d}.png" for i in range(images)]),
        np.array([f"patient_{i // 3}" for i in range(images)]),
    )
    rule = np.tile([0.5, 1.0, 1.0], (images, 1, 1))
    return ClassificationEvidence(
        ids=names,
        groups=patients,
        rule=rule,
        classes=("sick",),
        logits=logits,
        labels=truth,
        group_is="patient",
    )


def configuration(experiment: str) -> dict:
    with initialize_config_dir(str(CONF)):
        cfg = compose(
            "run",
            [
                f"experiment={experiment}",
                f"title={experiment}",
                "paths.run=RUN",
                "scale=demo",
                "init_from=null",
            ],
        )
    return OmegaConf.to_container(cfg, resolve=True)


def make_run(folder: Path, number: int, evidence: Evidence, config: dict) -> None:
    """Write what a tested run leaves, as far as the leaderboard reads it."""
    scores = {
        name: {score: asdict(value) for score, value in of_class.items()}
        for name, of_class in bootstrap_metrics(evidence, 2).items()
    }
    config = config | {"seed": number, "paths": config["paths"] | {"run": str(folder)}}
    report = {
        "schema": 3,
        "title": config["title"],
        "headline_metrics": evidence.headline_metrics,
        "evaluated_split": "test",
        "finished": f"2026-11-01T{number % 24:02d}:00:00",
    }
    report |= {
        "scores": {"val": scores, "test": scores},
        "data": {"root": "data", "phantom": True},
        "config": config,
    }
    report |= {
        "parameters": {"trainable": 10**6, "total": 10**7},
        "resources": {"train_seconds": 60.0},
        "commit": "c" * 40,
    }
    report |= {
        "definitions": {score.name: score.definition for score in evidence.metrics},
        "identity": evidence.identity,
    }
    folder.mkdir(parents=True)
    write_evidence(evidence, folder / "evidence" / "test.npz")
    write_json(report, folder / "report.json")
    (folder / "config.yaml").write_text(
        OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8"
    )
    (folder / "outcome.json").write_text(
        json.dumps({"status": "finished", "score": 0.5, "failure": None}), encoding="utf-8"
    )
    (folder / "checkpoints").mkdir()


def seconds(runs: Path) -> tuple[float, float]:
    """Return wall time and this process's CPU time of publishing.

    Other work on the machine changes CPU time less.
    """
    start, own = time.perf_counter(), time.process_time()
    write_leaderboard(runs)
    return time.perf_counter() - start, time.process_time() - own


def measure(runs: Path, add: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {
        "all read again": [],
        "nothing changed": [],
        "one run added": [],
    }
    for _ in range(rounds):
        shutil.rmtree(runs / CACHE_FOLDER, ignore_errors=True)
        found["all read again"].append(seconds(runs))
        found["nothing changed"].append(seconds(runs))
        shutil.copytree(add, runs / "masks" / "added")
        found["one run added"].append(seconds(runs))
        shutil.rmtree(runs / "masks" / "added")
    return found


def main(asked: argparse.Namespace) -> None:
    random = np.random.default_rng(0)
    configs = {
        "masks": configuration("unetpp_brain_tumor"),
        "labels": configuration("lora_pneumonia"),
    }
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        for number in range(asked.runs):
            name = "labels" if number % 5 == 4 else "masks"
            evidence = (labels if name == "labels" else masks)(
                asked.images, random.uniform(0.8, 1.2), random
            )
            make_run(
                runs / name / f"{number // 50}" / f"{number % 50}", number, evidence, configs[name]
            )
        make_run(
            Path(folder) / "add", asked.runs, masks(asked.images, 1.1, random), configs["masks"]
        )
        for name, spent in measure(runs, Path(folder) / "add", asked.rounds).items():
            clock, own = (statistics.median(column) for column in zip(*spent, strict=True))
            print(
                f"{name}: {clock:.3f} s by the clock, {own:.3f} s of processor time (medians of"
                f" {asked.rounds})"
            )
        page, kept = (
            (runs / "leaderboard.html").stat().st_size,
            (runs / CACHE_FOLDER / "known.npz").stat().st_size,
        )
        size, load = f"page {page / 1e6:.2f} MB, kept {kept / 1e6:.1f} MB", os.getloadavg()[0]
        print(f"{asked.runs} runs x {asked.images} images: {size}; load of the machine {load:.1f}")
        if asked.keep:
            shutil.copytree(runs, asked.keep)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder to which the runs are copied")
    main(parser.parse_args())
