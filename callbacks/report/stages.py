"""Curriculum stages for pages: stages.json, the images sampled in each, and their labels."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from callbacks.report.metrics import per_epoch

IMAGES, POSITIVE = "drawn/images", "drawn/positive_fraction"
# columns of the table of stages; all else are other settings
COLUMNS = (
    "epochs",
    "lr",
    "image_size",
    "batch_size",
    "positive_fraction",
)


def read_stages(run_dir: Path) -> list[dict[str, Any]]:
    """Load stages.json with `last_epoch` and `drawn` of each stage; empty without a curriculum.

    Epochs count from 0. `drawn` holds the number of images sampled in the stage and their shares.
    """
    path = run_dir / "stages.json"
    if not path.is_file():
        return []
    table = per_epoch(run_dir / "metrics.csv")
    return [_enriched(stage, table) for stage in json.loads(path.read_text(encoding="utf-8"))]


def _enriched(stage: dict[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    last = max((score["epoch"] for score in stage["scores"]), default=stage["first_epoch"])
    best = stage.get("best") or {"epoch": None, "score": None}
    return stage | {
        "last_epoch": last,
        "best": best,
        "drawn": drawn(table[(table.index >= stage["first_epoch"]) & (table.index <= last)]),
    }


def drawn(rows: pd.DataFrame) -> dict[str, float]:
    """Return the number of images sampled, and shares of them over all epochs."""
    if IMAGES not in rows or rows[IMAGES].notna().sum() == 0:
        return {}
    rows = rows[rows[IMAGES].notna()]
    images = rows[IMAGES]
    shares = {name: float((rows[name] * images).sum() / images.sum()) for name in shares_of(rows)}
    return {"images": float(images.sum())} | {
        name.removeprefix("drawn/"): share for name, share in shares.items()
    }


def shares_of(table: pd.DataFrame) -> list[str]:
    """Return the columns that are shares of the sampled images, that of positives first."""
    named = [
        name
        for name in table.columns.astype(str)
        if name.startswith("drawn/") and name != IMAGES and table[name].notna().any()
    ]
    return sorted(named, key=lambda name: name != POSITIVE)


def label(stage: Mapping[str, Any]) -> str:
    """Return the label of a stage, such as `stage 1 · lr 1e-4 · pos .5`."""
    asked = stage["asked"]
    words = [f"stage {stage['stage']}"]
    words += [f"lr {rate(asked['lr'])}"] if "lr" in asked else []
    words += [f"pos {share(asked['positive_fraction'])}"] if "positive_fraction" in asked else []
    return " · ".join(words)


def rate(value: float) -> str:
    """Format a learning rate without padding: `3e-4`."""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def share(value: float | Mapping[str, float]) -> str:
    """Format a share without its leading zero, `.5`, or one that changes, `.8→.22`."""
    if isinstance(value, Mapping):
        return f"{share(value['from'])}→{share(value['to'])}"
    return f"{value:.3g}".removeprefix("0") or "0"


def settings(asked: Mapping[str, Any]) -> str:
    """Describe the settings of a stage that are not columns of the table."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_plain(value)}"
        for name, value in asked.items()
        if name not in COLUMNS
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={number}" for name, number in value.items())
    return "yes" if value is True else str(value)
