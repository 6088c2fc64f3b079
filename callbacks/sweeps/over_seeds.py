"""Scores of several fits on the same images: mean, standard deviation, and an interval that counts patients and seeds."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from callbacks.comparison.paired import n_effective_groups, resample_runs
from lightning_modules.evidence import Evidence
from lightning_modules.uncertainty import (
    MEAN,
    MIN_GROUPS,
    RESAMPLES,
    bootstrap_caveat,
    bootstrap_metrics,
    nanmean_classes,
    percentile_interval,
    resample_scores,
)


def seed_statistics(
    seed_evidence: Sequence[Evidence], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Class -> score -> estimate as in report.json, whose value is the mean over seeds, with their standard deviation `sd` besides.

    Each draw takes the patients once for all seeds, and as many seeds with replacement; of one seed
    it is the bootstrap by patients.

    Args:
        seed_evidence: Evidence of each seed, on the same images.
        resamples: Draws.
        seed: Of the draws.
    """
    each = np.array(
        [resample_scores(run, resamples, seed) for run in seed_evidence]
    )  # seeds x classes x scores x R
    once = np.array([resample_scores(run, None) for run in seed_evidence])
    single, found = bootstrap_metrics(seed_evidence[0], 1), {}
    for name, of_class in single.items():
        classes = (
            list(range(len(seed_evidence[0].classes)))
            if name == MEAN
            else [seed_evidence[0].classes.index(name)]
        )
        drawn = resample_runs(
            np.array([nanmean_classes(run[classes]) for run in each]), [seed, 0]
        )  # scores x R
        point = np.array([nanmean_classes(run[classes])[:, 0] for run in once])  # seeds x scores
        found[name] = {
            score.name: (
                asdict(of_class[score.name])
                | _seed_estimate(
                    point[:, s],
                    drawn[s],
                    n_effective_groups(seed_evidence[0], score, classes) >= MIN_GROUPS,
                )
            )
            for s, score in enumerate(seed_evidence[0].scores)
        }
    return found


def _seed_estimate(
    seed_scores: np.ndarray, replicates: np.ndarray, enough_groups: bool
) -> dict[str, Any]:
    low, high = percentile_interval(replicates, enough_groups)
    undefined = len(replicates) - int(np.isfinite(replicates).sum()) if enough_groups else 0
    sd = float(seed_scores.std(ddof=1)) if len(seed_scores) > 1 else None
    return {
        "value": float(seed_scores.mean()),
        "low": low,
        "high": high,
        "degenerate": undefined,
        "sd": sd,
    }


def seed_caveat(seed_evidence: Sequence[Evidence], unit: str = "seeds") -> str:
    """What the intervals assume, in one sentence.

    Args:
        seed_evidence: As above.
        unit: What the fits differ in.
    """
    if len(seed_evidence) == 1:
        return bootstrap_caveat(seed_evidence[0])
    if len(np.unique(seed_evidence[0].groups)) < MIN_GROUPS:
        return f"means of {len(seed_evidence)} {unit}; {bootstrap_caveat(seed_evidence[0])}"
    few = f", of which {len(seed_evidence)} tell little" if len(seed_evidence) < 5 else ""
    return f"means of {len(seed_evidence)} {unit}; {bootstrap_caveat(seed_evidence[0])}; each draw also draws among the {unit}{few}"
