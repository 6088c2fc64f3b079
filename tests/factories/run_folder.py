"""Run folders as tested runs leave them, built without a network.

A folder holds a report, evidence, a configuration and an outcome.
"""

import json
from dataclasses import asdict, replace

import numpy as np
from omegaconf import OmegaConf

from evaluation.bootstrap import bootstrap_metrics
from reporting.outcome import Outcome, write_outcome
from reporting.run_folder import RunFolder
from tests.unit.evaluation.metrics.test_classification import drawn, evidence_of


def labels(noise=0.0, seed=5, n=120, patients=40, classes=1, skill=0.0):
    """Evidence of labels; the same images and truth for every noise and skill."""
    logits, truth = drawn(n=n, classes=classes, ties=False)
    noisy = logits + skill * truth + np.random.default_rng(seed).normal(size=logits.shape) * noise
    return replace(
        evidence_of(noisy, truth, groups=[f"p{i % patients}" for i in range(n)]), group_is="patient"
    )


def left(
    folder,
    evidence,
    val,
    monitor=("val/f1", "max"),
    title="t",
    evaluated_split="test",
    status="finished",
    **settings,
):
    """Writes a run; `val` is what it reached there, by every score of its page."""
    config = {
        "do": ["fit", "test"],
        "title": title,
        "seed": 0,
        "fold": None,
        "trainer": {"fast_dev_run": False},
        "paths": {"run": str(folder)},
    }
    config |= {
        "monitor": {"name": monitor[0], "mode": monitor[1]},
        "datamodule": {"_target_": "datamodules.table.TableDataModule"},
    } | settings
    found = {
        name: {score: asdict(e) for score, e in scores.items()}
        for name, scores in bootstrap_metrics(evidence, 200).items()
    }
    on_val = {
        name: {score: e | {"value": val} for score, e in scores.items()}
        for name, scores in found.items()
    }
    report = {
        "schema": 3,
        "title": title,
        "evaluated_split": evaluated_split,
        "headline_metrics": evidence.headline_metrics,
        "finished": "2026-11-01T10:00:00+00:00",
    }
    report |= {
        "scores": {"val": on_val, evaluated_split: found if evaluated_split == "test" else on_val},
        "config": config,
        "commit": "abc+",
    }
    report |= {
        "data": {"phantom": True, "root": "/data/set"},
        "parameters": {"trainable": 7, "total": 9},
        "resources": {"train_seconds": 3.0},
    }
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder)
    run.write_report(report)
    run.write_config(OmegaConf.create(config))
    failure = "it broke" if status == "failed" else None
    write_outcome(folder, Outcome(status=status, score=val, failure=failure))
    run.write_evidence(evaluated_split, evidence)
    return folder


def changed(folder, **values):
    """Other values in a report.json."""
    path = folder / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
