"""Plain values that the leaderboard keeps of a run's report and evidence."""

from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.comparison.differing import flatten_config
from callbacks.comparison.finished import get_score
from callbacks.comparison.paired import bootstrap_scores, n_effective_groups
from callbacks.comparison.ranking import get_monitor
from lightning_modules.evidence import Evidence
from lightning_modules.uncertainty import MIN_GROUPS, percentile_interval

BootstrapScores = dict[str, np.ndarray]  # score -> its bootstrap replicates


def summarize_report(report: dict[str, Any]) -> dict[str, Any]:
    """Collect a run's split, data, cost and settings from its report."""
    config = report.get("config") or {}
    data, parameters = report.get("data") or {}, report.get("parameters") or {}
    module, place = (
        str((config.get("datamodule") or {}).get("_target_", "")).split(".")[-2:-1],
        Path(str(data.get("root", ""))).name,
    )
    return {
        "judged": report.get("judged", "test"),
        "fold": config.get("fold"),
        "parts": [Path(fold["page"]).parent.as_posix() for fold in report.get("folds", [])],
        "data": f"{module[0]} ({place})" if module and module[0] != place else place,
        "phantom": bool(data.get("phantom")),
        "trained": parameters.get("trainable"),
        "parameters": parameters.get("total"),
        "train_seconds": (report.get("resources") or {}).get("train_seconds"),
        "commit": report.get("commit"),
        "settings": flatten_config(config),
    }


def summarize_predictions(
    report: dict[str, Any], evidence: Evidence
) -> tuple[dict[str, Any], BootstrapScores]:
    """Collect the identity of the evaluated images and the scores on them.

    Args:
        report: Of the run, of which the scores on val are taken.
        evidence: Of the split that it leads with.

    Returns:
        The values, and the bootstrap replicates of the score that the run monitored.
    """
    judged, names, head = (
        report.get("judged", "test"),
        [score.name for score in evidence.scores],
        evidence.headline_metrics[0],
    )
    monitor = get_monitor(report.get("config"), head)
    by = monitor[0].removeprefix("val/")
    val = {
        name: _score_or_nan(report, "val" if judged == "test" else judged, name) for name in names
    }
    found = {
        "kind": evidence.kind,
        "identity": evidence.identity,
        "grouped": _grouping_hash(evidence),
        "group_is": evidence.group_is,
        "judged_at": evidence.evaluation_grid,
        "n": len(evidence),
        "scores": names,
        "head": head,
        "monitor": list(monitor),
        "val": {name: value for name, value in val.items() if not isnan(value)},
    }
    score, draws = score_with_interval(evidence, by if by in names else head)
    return found | {"test": score}, draws


def score_with_interval(
    evidence: Evidence, name: str
) -> tuple[dict[str, dict[str, float]], BootstrapScores]:
    """Return a score with its interval and number of groups, and its bootstrap replicates."""
    draws = bootstrap_scores(evidence, [name])[0]
    groups = n_effective_groups(
        evidence, next(score for score in evidence.scores if score.name == name)
    )
    found = {"value": float(bootstrap_scores(evidence, [name], None)[0, 0]), "groups": groups}
    low, high = percentile_interval(draws, groups >= MIN_GROUPS)
    if low is not None and high is not None:
        found |= {"low": low, "high": high}
    return {name: found}, {name: draws}


def _grouping_hash(evidence: Evidence) -> str:
    """Hash the grouping; it is the same for two runs that group the same images alike."""
    pairs = sorted(zip(evidence.ids.tolist(), evidence.groups.tolist(), strict=True))
    return sha256(repr(pairs).encode()).hexdigest()[:16]


def _score_or_nan(report: dict[str, Any], split: str, name: str) -> float:
    """Return a score; NaN where an older report does not have it."""
    try:
        return get_score(report, split, name)
    except KeyError:
        return float("nan")
