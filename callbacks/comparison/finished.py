"""A finished run as a comparison reads it: its report and its test evidence."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from datamodules.refusal import Refusal
from lightning_modules import evidence_file
from lightning_modules.evidence import Evidence
from lightning_modules.uncertainty import MEAN


@dataclass(frozen=True)
class Finished:
    """One run.

    Attributes:
        folder: Where it is.
        report: Its report.json.
        evidence: Of test.
    """

    folder: Path
    report: dict[str, Any]
    evidence: Evidence

    @property
    def settings(self) -> dict[str, Any]:
        """Every value of its configuration by its dotted key, without the seeds and what names this very run."""
        config = self.report.get("config") or {}
        own = str(config.get("paths", {}).get("run"))
        flat = {key: value for key, value in _flat(config) if own not in str(value)}
        return {key: value for key, value in flat.items() if key not in ("seed", "datamodule.seed", "title") and not key.startswith("paths.")}

    def score(self, split: str, name: str) -> float:
        """A score of a split; of several classes their mean."""
        return score_of(self.report, split, name)


def score_of(report: dict[str, Any], split: str, name: str) -> float:
    """A score in a report.json; of several classes their mean, NaN where it is undefined or was not taken."""
    classes = report["scores"].get(split, {})
    if not classes:
        return float("nan")
    value = classes.get(MEAN, next(iter(classes.values())))[name]["value"]
    return float("nan") if value is None else float(value)


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(config, dict):
        for name, value in config.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(config, list) and any(isinstance(value, dict) for value in config):  # such as the stages of a curriculum
        for number, value in enumerate(config):
            yield from _flat(value, f"{prefix}[{number}]")
    else:
        yield prefix, config


def arms(runs: Sequence[Finished]) -> dict[str, list[Finished]]:
    """Runs that differ in nothing but their seed, by title and, where that is not enough, by what they differ in."""
    found: dict[str, list[Finished]] = {}
    for run in runs:
        alike = [other.settings for other in runs if other.report["title"] == run.report["title"]]
        differing = [key for key in run.settings if any(other.get(key) != run.settings[key] for other in alike)]
        words = ", ".join(_words(run.settings, differing, alike))
        found.setdefault(f"{run.report['title']} ({words})" if words else str(run.report["title"]), []).append(run)
    return found


def _words(own: dict[str, Any], differing: Sequence[str], alike: Sequence[dict[str, Any]]) -> Iterator[str]:
    """`rank=8`, `stages[1].lr=0.0001`; a list that differs in more than two places has a letter for each of its variants: `stages=B`."""
    for stem, keys in ((stem, list(keys)) for stem, keys in groupby(differing, lambda key: key.split("[")[0])):
        name = stem.rsplit(".", 1)[-1]
        variants = [{key: value for key, value in other.items() if key.startswith(f"{stem}[")} for other in alike]
        unequal = {key for variant in variants for key in variant if any(other.get(key) != variant[key] for other in variants)}
        if len(unequal) <= 2:
            yield from (f"{name}{key.removeprefix(stem)}={own[key]}" for key in keys)
        else:
            distinct = [variant for n, variant in enumerate(variants) if variant and variant not in variants[:n]]
            place = distinct.index(variants[alike.index(own)])
            yield f"{name}={chr(ord('A') + place) if place < 26 else place}"


def read_all(folder: Path) -> list[Finished]:
    """A run folder, or a sweep's folder with all its trials."""
    if (folder / "report.json").is_file():
        return [read(folder)]
    return [read(path.parent) for path in sorted(folder.glob("*/report.json"))] or [read(folder)]


def read(folder: Path) -> Finished:
    """Reads a run folder.

    Raises:
        Refusal: it holds no report or no test evidence.
    """
    path = folder / "report.json"
    if not path.is_file():
        raise Refusal(f"{folder} holds no report.json, so it is no finished run; name a run folder, or test it with do=[test] ckpt_path={folder}")
    return Finished(folder, json.loads(path.read_text(encoding="utf-8")), evidence_file.read(folder / "evidence" / "test.npz"))
