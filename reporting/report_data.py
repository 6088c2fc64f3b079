"""Build report.json: the scores, the rule, the versions and the configuration of a run."""

import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evaluation.bootstrap import bootstrap_caveat, bootstrap_metrics
from evaluation.evidence import Evidence
from evaluation.views import drop_near_duplicates, per_patient
from reporting.figures.training import read_stages
from reporting.run_folder import SCHEMA, RunFolder
from reporting.task_view import TASK_VIEWS, page_heading

PACKAGES = (
    "medical-lightning",
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
    evaluated_split: str = "test"  # the split whose scores the page shows first


def build_report(run: ReportInput, data: dict[str, Any]) -> dict[str, Any]:
    """Return report.json as a dictionary: scores, rule, data, cost, versions, configuration."""
    stages = read_stages(RunFolder(run.run_dir))
    views = (
        run.evidence
        | drop_near_duplicates(run.evidence, set(data["near_duplicates"]["test_images"]))
        | per_patient(run.evidence, run.evaluated_split)
    )
    return {
        "schema": SCHEMA,
        "title": run.title,
        "heading": page_heading(
            run.evidence[run.evaluated_split].kind,
            run.evidence[run.evaluated_split].classes,
            data,
        ),
        "kind": run.evidence[run.evaluated_split].kind,
        "headline_metrics": run.evidence[run.evaluated_split].headline_metrics,
        "evaluated_split": run.evaluated_split,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "scores": {split: report_scores(evidence) for split, evidence in views.items()},
        "definitions": {
            score.name: score.definition for score in run.evidence[run.evaluated_split].metrics
        },
        "units": {
            score.name: score.unit
            for score in run.evidence[run.evaluated_split].metrics
            if score.unit
        },
        "caveat": {split: bootstrap_caveat(evidence) for split, evidence in views.items()},
        "identity": run.evidence[run.evaluated_split].identity,
        "evaluation_grid": run.evidence[run.evaluated_split].evaluation_grid,
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
        "config": RunFolder(run.run_dir).config or None,
    }


def report_scores(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Return class -> score -> estimate."""
    return {
        name: {score: asdict(value) for score, value in found.items()}
        for name, found in bootstrap_metrics(evidence).items()
    }


def package_versions(package: str) -> str:
    """Return a package's version, or `unknown` if it came without metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def git_commit() -> str | None:
    """Return the git commit of this code, with `+` if files were changed; None without git.

    An installed package may lie inside a repository of the user's, whose commit says nothing.
    """
    here = Path(__file__).parent
    try:
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name],
            cwd=here,
            capture_output=True,
            check=True,
            timeout=10,
        )
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
