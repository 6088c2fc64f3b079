"""Curriculum stages for pages: stages.json, the images sampled in each, and their labels."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from callbacks.report.metrics import read_epochs

IMAGES, POSITIVE = "drawn/images", "drawn/positive_fraction"
# columns of the table of stages; all else are other settings
STAGE_COLUMNS = (
    "epochs",
    "lr",
    "image_size",
    "batch_size",
    "positive_fraction",
)


def read_stages(run_dir: Path) -> list[dict[str, Any]]:
    """Load stages.json with `last_epoch` and `stage_sampling` of each stage; empty without a curriculum.

    Epochs count from 0. `stage_sampling` holds the number of images sampled in the stage and their shares.
    """
    path = run_dir / "stages.json"
    if not path.is_file():
        return []
    table = read_epochs(run_dir / "metrics.csv")
    return [_add_sampling(stage, table) for stage in json.loads(path.read_text(encoding="utf-8"))]


def _add_sampling(stage: dict[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    last = max((score["epoch"] for score in stage["scores"]), default=stage["first_epoch"])
    best = stage.get("best") or {"epoch": None, "score": None}
    return stage | {
        "last_epoch": last,
        "best": best,
        "drawn": stage_sampling(
            table[(table.index >= stage["first_epoch"]) & (table.index <= last)]
        ),
    }


def stage_sampling(rows: pd.DataFrame) -> dict[str, float]:
    """Return the number of images sampled, and shares of them over all epochs."""
    if IMAGES not in rows or rows[IMAGES].notna().sum() == 0:
        return {}
    rows = rows[rows[IMAGES].notna()]
    images = rows[IMAGES]
    shares = {
        name: float((rows[name] * images).sum() / images.sum()) for name in stratum_fractions(rows)
    }
    return {"images": float(images.sum())} | {
        name.removeprefix("drawn/"): share for name, share in shares.items()
    }


def stratum_fractions(table: pd.DataFrame) -> list[str]:
    """Return the columns that are shares of the sampled images, that of positives first."""
    named = [
        name
        for name in table.columns.astype(str)
        if name.startswith("drawn/") and name != IMAGES and table[name].notna().any()
    ]
    return sorted(named, key=lambda name: name != POSITIVE)


def format_stage(stage: Mapping[str, Any]) -> str:
    """Return the label of a stage, such as `stage 1 · lr 1e-4 · pos .5`."""
    asked = stage["asked"]
    words = [f"stage {stage['stage']}"]
    words += [f"lr {format_lr(asked['lr'])}"] if "lr" in asked else []
    words += (
        [f"pos {format_fraction(asked['positive_fraction'])}"]
        if "positive_fraction" in asked
        else []
    )
    return " · ".join(words)


def format_lr(value: float) -> str:
    """Format a learning rate without padding: `3e-4`."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def format_fraction(value: float | Mapping[str, float]) -> str:
    """Format a share without its leading zero, `.5`, or one that changes, `.8→.22`."""
    if isinstance(value, Mapping):
        return f"{format_fraction(value['from'])}→{format_fraction(value['to'])}"
    return f"{value:.3g}".removeprefix("0") or "0"


def format_overrides(asked: Mapping[str, Any]) -> str:
    """Describe the settings of a stage that are not columns of the table."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_plain_value(value)}"
        for name, value in asked.items()
        if name not in STAGE_COLUMNS
    )


def _plain_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={number}" for name, number in value.items())
    return "yes" if value is True else str(value)
