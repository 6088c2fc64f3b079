"""Synthetic run folders of untrained fits over folds and seeds."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml

from evaluation.bootstrap import bootstrap_metrics
from evaluation.evidence import ClassificationEvidence, write_evidence
from reporting.file_io import write_json
from reporting.outcome import Outcome, write_outcome

NAMES = np.array([f"i{n:03d}" for n in range(160)])
LABELS = (np.random.default_rng(7).random((160, 1)) < 0.4).astype(np.uint8)
GROUPS = np.array([f"p{n // 2:02d}" for n in range(160)])
POOL, TEST = np.arange(100), np.arange(100, 160)
DATA = {
    "root": "data",
    "phantom": True,
    "group_is": "patient",
    "splits": {},
    "cleaning": {},
    "leaks": [],
    "split": "folders",
    "folder_leaks": {},
}
COPIES = {"pairs": 0, "test_images": [], "examples": []}


def seen(
    rows: np.ndarray, seed: int, skill: float = 1.0, threshold: float = 0.5
) -> ClassificationEvidence:
    """What a network of that seed says of some images; the same of an image whatever the rows."""
    logits = (
        np.random.default_rng(100 + seed).normal(size=LABELS.shape) * 1.5
        + skill * (LABELS - 0.4) * 2
    )
    rule = np.tile((threshold, 1.0, 1.0), (len(rows), 1, 1))
    parts = {
        "logits": logits[rows].astype(np.float32),
        "labels": LABELS[rows],
        "groups": GROUPS[rows],
        "ids": NAMES[rows],
    }
    return ClassificationEvidence(rule=rule, classes=("lesion",), group_is="patient", **parts)


def cut(folds: int, seed: int = 0) -> np.ndarray:
    """The fold of each image of the pool, by patient."""
    patients, member = np.unique(GROUPS[POOL], return_inverse=True)
    return np.random.default_rng(seed).permutation(np.arange(len(patients)) % folds)[member]


def fit(
    folder: Path,
    val: ClassificationEvidence,
    test: ClassificationEvidence,
    words: list[str],
    failure: str | None = None,
    **config: object,
) -> Path:
    """A run folder; `words` are those of its command line."""
    datamodule = {"seed": 0, "root": "data", "phantom": None}
    told = {
        "title": "drawn",
        "monitor": {"name": "val/auc", "mode": "max"},
        "image_size": 64,
        "fold": None,
        "folds": 0,
        "seed": 0,
        "init_from": None,
    }
    told |= {"datamodule": datamodule, "paths": {"run": str(folder)}} | config
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump(words))
    (folder / "config.yaml").write_text(yaml.safe_dump(told))
    status = "failed" if failure else "finished"
    score = None if failure else 0.5
    write_outcome(folder, Outcome(status=status, score=score, failure=failure))
    if failure:
        return folder
    scores = {}
    for split, evidence in (("val", val), ("test", test)):
        write_evidence(evidence, folder / f"evidence/{split}.npz")
        scores[split] = {
            "lesion": {
                name: asdict(value)
                for name, value in bootstrap_metrics(evidence, resamples=2)["lesion"].items()
            }
        }
    report = {
        "title": "drawn",
        "kind": "label",
        "headline_metrics": val.headline_metrics,
        "evaluated_split": "test",
        "scores": scores,
        "config": told,
    }
    write_json(report | {"data": DATA | {"near_duplicates": COPIES}}, folder / "report.json")
    return folder


def sweep(
    folder: Path,
    folds: int,
    seeds: list[int],
    failed: tuple[int, ...] = (),
    variants: tuple[str, ...] = (),
    new_cut: bool = False,
) -> Path:
    """Write a multirun over folds, seeds and variants of falling skill; `failed` lists trials."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "multirun.yaml").write_text("")
    number = 0
    for place, variant in enumerate(variants or ("",)):
        for fold in range(folds):
            for seed in seeds:
                own = cut(folds, seed if new_cut else 0) == fold
                rule = 0.4 + 0.02 * fold
                words = [
                    f"fold={fold}",
                    f"seed={seed}",
                    *([variant] if variant else []),
                    f"folds={folds}",
                    "experiment=drawn",
                    "+hydra=x",
                ]
                parts = (
                    seen(POOL[own], seed, 1 - 0.6 * place, rule),
                    seen(TEST, 10 * fold + seed, 1 - 0.6 * place, rule),
                )
                failure = "ValueError: <b>a bad value</b>" if number in failed else None
                more = {
                    "datamodule": {"seed": seed if new_cut else 0, "root": "data", "phantom": None}
                }
                fit(
                    folder / str(number),
                    *parts,
                    words,
                    failure,
                    fold=fold,
                    folds=folds,
                    seed=seed,
                    **more,
                )
                number += 1
    return folder


def report_of(folder: Path) -> dict:
    """report.json of a folder."""
    return json.loads((folder / "report.json").read_text())
