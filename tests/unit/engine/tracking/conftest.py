"""Run folders as tested runs leave them, with names in every place from which they might leak."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import wandb
from omegaconf import OmegaConf

from callbacks.report_writer import ReportWriter
from engine.tracking.logger import PrivateWandbLogger
from evaluation.evidence import ClassificationEvidence, SegmentationEvidence, write_evidence
from reporting.cases import Case, data_url
from reporting.file_io import write_json
from reporting.report_data import report_scores
from reporting.task_view import TASK_VIEWS

ID, PATIENT, DATA = "secret-scan-", "secret-patient-", "/mnt/secret-hospital/films"
IMAGES = 24


def labels(seed: int) -> ClassificationEvidence:
    """One class, one image a patient."""
    random = np.random.default_rng(seed)
    truth = np.arange(IMAGES)[:, None] % 3 == 0
    logits = (random.normal(size=(IMAGES, 1)) + truth).astype(np.float32)
    rule = np.tile([0.5, 1.0, 1.0], (IMAGES, 1, 1))
    named = {
        "ids": np.array([f"{ID}{i}" for i in range(IMAGES)]),
        "groups": np.array([f"{PATIENT}{i}" for i in range(IMAGES)]),
    }
    return ClassificationEvidence(
        logits=logits,
        labels=truth.astype(np.uint8),
        rule=rule,
        classes=("finding",),
        group_is="patient",
        **named,
    )


def masks(seed: int) -> SegmentationEvidence:
    """Return one-class histograms: 100 pixels outside, 20 inside (none in every fourth image)."""
    random = np.random.default_rng(seed)
    counts = np.zeros((IMAGES, 1, 2, 256), np.int32)
    for i in range(IMAGES):
        for inside, (pixels, middle) in enumerate(((100, 110), (20 * (i % 4 > 0), 145))):
            np.add.at(
                counts[i, 0, inside],
                np.clip(random.normal(middle, 20, pixels), 0, 255).astype(int),
                1,
            )
    rule = np.tile([128.0, 0.0, 128.0], (IMAGES, 1, 1))
    ids = np.array([f"{ID}{i}" for i in range(IMAGES)])
    return SegmentationEvidence(
        counts=counts, ids=ids, groups=ids, rule=rule, classes=("lesion",), grid="native"
    )


def reported(folder: Path, evidence: dict) -> dict:
    """Leaves report.json and evidence in a run folder."""
    test = evidence["test"]
    for split, seen in evidence.items():
        write_evidence(seen, folder / "evidence" / f"{split}.npz")
    found = {
        "title": "secret title",
        "evaluated_split": "test",
        "scores": {split: report_scores(seen) for split, seen in evidence.items()},
        "rule": {test.classes[0]: {"threshold": 0.5}},
        "identity": test.identity,
        "parameters": {"trainable": 5, "total": 7},
        "resources": {"fit_seconds": 1.5},
        "data": {"root": DATA, "near_duplicates": {"test_images": test.ids.tolist()}},
        **TASK_VIEWS[test.kind].tables(evidence),
    }
    write_json(found, folder / "report.json")
    return json.loads((folder / "report.json").read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A run folder whose configuration names folders, files and images."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    run = tmp_path / "secret-study"
    (run / "checkpoints").mkdir(parents=True)
    config = {
        "do": ["fit", "test"],
        "title": "secret title",
        "seed": 3,
        "monitor": {"name": "val/f1", "mode": "max"},
        "folds": 0,
        "fold": None,
        "resume": None,
        "ckpt_path": None,
        "init_from": f"{DATA}/weights.ckpt",
        "paths": {"run": str(run), "data": DATA},
        "datamodule": {
            "root": DATA,
            "manifest_name": "secret.csv",
            "class_folders": ["secret-class"],
            "batch_size": 8,
        },
        "module": {
            "net": {"encoder_name": "resnet18", "weights": f"{DATA}/weights.pt"},
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3},
        },
        "callbacks": {
            "feature_maps": {"ids": [f"{ID}0", 7]},
            "label_threshold": {"objective": "youden"},
        },
    }
    OmegaConf.save(config, run / "config.yaml")
    state = {"net.weight": torch.ones(2)}
    checkpoint = {
        "state_dict": state,
        "callbacks": {"Best": {"dirpath": f"{DATA}/checkpoints"}},
        "FilmsDataModule": {"image_size": [32, 64]},
    }
    torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
    return run


@pytest.fixture
def trainer(folder):
    """With a report that shows one picture, all of one color."""
    report = ReportWriter(str(folder), "t")
    case = Case(
        "worst",
        f"{ID}5",
        f"{ID}5: 0.5",
        {"overlay": data_url(np.full((16, 16, 3), (10, 20, 200), np.uint8))},
    )
    report._results = {}, {}, [case]
    return SimpleNamespace(callbacks=[report])


def board(folder: Path, **more) -> PrivateWandbLogger:
    """An offline logger of a run folder."""
    return PrivateWandbLogger(str(folder), **{"project": "p", "mode": "offline"} | more)


def content(folder: Path) -> bytes:
    """All bytes and names below wandb/, links followed."""
    paths = list((folder / "wandb").rglob("*"))
    assert any(path.suffix == ".wandb" for path in paths)
    return b"\n".join(
        [str(path.relative_to(folder)).encode() for path in paths]
        + [path.read_bytes() for path in paths if path.is_file()]
    )


@pytest.fixture
def fresh_session():
    """W&B reads the environment once a session."""
    wandb.teardown()
    yield
    wandb.teardown()
