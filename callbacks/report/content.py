"""Builds the content of report.json in one dictionary."""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.report.judged import drop_near_duplicates, per_patient
from callbacks.report.kinds import TASK_VIEWS
from callbacks.report.schema import SCHEMA
from callbacks.report.stages import read_stages
from callbacks.runs.written import read_yaml
from datamodules.base import ManifestDataModule
from datamodules.labels import present_classes
from datamodules.leaks import find_near_duplicates
from datamodules.whole_file import atomic_write
from lightning_modules.evidence import Evidence
from lightning_modules.uncertainty import bootstrap_caveat, bootstrap_metrics

PACKAGES = (
    "torch",
    "lightning",
    "hydra-core",
    "segmentation-models-pytorch",
    "timm",
    "peft",
    "albumentations",
    "numpy",
    "opencv-python-headless",
)


@dataclass(frozen=True)
class ReportInput:
    """Inputs for the report of a finished run."""

    title: str
    run_dir: Path
    evidence: dict[str, Evidence]
    rule: list[dict[str, float]]
    extras: dict[str, Any]
    evaluated_split: str = "test"  # the split whose scores the page leads with


def build_report(run: ReportInput, data: dict[str, Any]) -> dict[str, Any]:
    """Return report.json as a dictionary: scores, rule, data, cost, versions, configuration."""
    stages = read_stages(run.run_dir)
    judged = (
        run.evidence
        | drop_near_duplicates(run.evidence, set(data["near_duplicates"]["test_images"]))
        | per_patient(run.evidence, run.evaluated_split)
    )
    return {
        "schema": SCHEMA,
        "title": run.title,
        "kind": run.evidence[run.evaluated_split].kind,
        "heads": run.evidence[run.evaluated_split].headline_metrics,
        "judged": run.evaluated_split,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "scores": {split: report_scores(evidence) for split, evidence in judged.items()},
        "definitions": {
            score.name: score.definition for score in run.evidence[run.evaluated_split].scores
        },
        "caveat": {split: bootstrap_caveat(evidence) for split, evidence in judged.items()},
        "identity": run.evidence[run.evaluated_split].identity,
        "judged_at": run.evidence[run.evaluated_split].evaluation_grid,
        "rule": dict(zip(run.evidence[run.evaluated_split].classes, run.rule, strict=False)),
        **TASK_VIEWS[run.evidence[run.evaluated_split].kind].tables(run.evidence),
        **run.extras,
        **({"stages": stages} if stages else {}),
        "data": data,
        "versions": (
            {"python": platform.python_version()}
            | {name: package_versions(name) for name in PACKAGES}
        ),
        "commit": git_commit(),
        "config": load_config(run.run_dir),
    }


def report_scores(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Return class -> score -> estimate."""
    return {
        name: {score: asdict(value) for score, value in found.items()}
        for name, found in bootstrap_metrics(evidence).items()
    }


def describe_data(data: ManifestDataModule) -> dict[str, Any]:
    """Count images, groups and positives per split, and list the problems of the data."""
    rows, shows = data.table.rows, present_classes(data.table, data.cache)
    splits = {
        split: {
            "images": len(part),
            "groups": int(part["group"].nunique()),
            "positive": dict(
                zip(
                    data.table.classes,
                    shows[data.table.where(str(split))].sum(0).tolist(),
                    strict=True,
                )
            ),
        }
        for split, part in rows.groupby("split")
    }
    pairs = find_near_duplicates(rows, np.asarray(data.cache.thumbnails))
    alike = {id for pair in pairs for id in (pair.first, pair.second)}
    return {
        "root": str(data.root),
        "phantom": data.phantom is not None or data.table.phantom,
        "group_is": data.table.group_is,
        "splits": splits,
        "cleaning": data.cleaning.as_dict(),
        "leaks": data.leaks,
        "split": data.split,
        "folder_leaks": data.folder_leaks,
        "near_duplicates": {
            "pairs": len(pairs),
            "test_images": sorted(alike & set(rows["id"][rows["split"] == "test"])),
            "examples": [asdict(pair) for pair in pairs[:20]],
        },
    }


def package_versions(package: str) -> str:
    """Return a package's version, or `unknown` if it came without metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def git_commit() -> str | None:
    """Return the git commit of this code, with `+` if files were changed; None without git."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+" if changed else "")


def load_config(run_dir: Path) -> dict[str, Any] | None:
    """Load the resolved configuration from the run folder; None if config.yaml is missing."""
    path = run_dir / "config.yaml"
    return read_yaml(path) if path.is_file() else None


def write_json(found: dict[str, Any], path: Path) -> None:
    """Write valid JSON; numbers that are not finite become null."""
    atomic_write(path, json.dumps(_to_plain(found), indent=2, ensure_ascii=False).encode())


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
