"""Build report.json: the data, the devices, the scores and the curves of a run."""

import json
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer

from datamodules.base import ManifestDataModule
from datamodules.formats.atomic_write import atomic_write
from datamodules.manifest.leakage import find_near_duplicates
from datamodules.manifest.manifest import present_classes
from datamodules.sampling.config import EpochConfig
from evaluation.bootstrap import bootstrap_caveat, bootstrap_metrics
from evaluation.evidence import Evidence
from evaluation.views import drop_near_duplicates, per_patient
from reporting.figures.training import read_stages
from reporting.run_folder import SCHEMA
from reporting.task_view import TASK_VIEWS
from reporting.yaml_io import read_yaml


def sampling_schedule(data: Any, trainer: Trainer) -> list[tuple[range, EpochConfig]]:
    """Return stretches of epochs and the plan of each.

    Stages that may end early count with their full length.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    curriculum = next((each for each in callbacks if hasattr(each, "stages")), None)
    if curriculum is None:
        plans = [data.epoch_config(epoch) for epoch in range(max(1, trainer.max_epochs or 1))]
    else:
        plans = [
            stage.epoch_config(data.base_epoch_config, epoch)
            for stage in curriculum.stages
            for epoch in range(stage.epochs)
        ]
    spans = [list(span) for _, span in groupby(range(len(plans)), lambda epoch: plans[epoch])]
    return [(range(span[0], span[-1] + 1), plans[span[0]]) for span in spans]


def describe_devices(trainer: Trainer) -> dict[str, Any]:
    """Describe the devices of this run, as its first process knows them.

    Returns:
        `processes` in all, `nodes`, `devices_per_node`, `device_names` (name -> how many, of the
        first node), `accelerator`, `strategy`, `precision`, `batch_sizes` (images a training step
        and device, those of a curriculum in their order) and `accumulated` (steps whose gradients
        are summed).
    """
    plans = sampling_schedule(trainer.datamodule, trainer)  # type: ignore[attr-defined]
    return {
        "processes": trainer.world_size,
        "nodes": trainer.num_nodes,
        "devices_per_node": trainer.num_devices,
        "names": device_names(trainer),
        "accelerator": trainer.strategy.root_device.type,
        "strategy": type(trainer.strategy).__name__.removesuffix("Strategy"),
        "precision": str(trainer.precision),
        "batch_sizes": list(dict.fromkeys(plan.batch_size for _, plan in plans)),
        "accumulated": trainer.accumulate_grad_batches,
    }


def device_names(trainer: Trainer) -> dict[str, int]:
    """Return device name -> count for the first node; known before anything runs."""
    own = getattr(trainer.strategy, "parallel_devices", None) or [trainer.strategy.root_device]
    return dict(Counter(_device_name(device) for device in own))


def _device_name(device: torch.device) -> str:
    """Return a GPU's name, a CPU with its number of threads, or the device type."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return (
        f"CPU ({threads} thread{'s' * (threads > 1)})"
        if device.type == "cpu"
        else device.type.upper()
    )


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
            score.name: score.definition for score in run.evidence[run.evaluated_split].metrics
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
