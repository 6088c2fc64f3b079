"""Scores of several fits on the same images: mean, standard deviation, and an interval that counts patients and seeds."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from callbacks.comparison.paired import groups_counting, over_runs
from lightning_modules.evidence import Evidence
from lightning_modules.uncertainty import (
    FEWEST_GROUPS,
    MEAN,
    RESAMPLES,
    caveat,
    estimates,
    interval,
    over_classes,
    resampled,
)


def over_seeds(
    arm: Sequence[Evidence], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Class -> score -> estimate as in report.json, whose value is the mean over seeds, with their standard deviation `sd` besides.

    Each draw takes the patients once for all seeds, and as many seeds with replacement; of one seed
    it is the bootstrap by patients.

    Args:
        arm: Evidence of each seed, on the same images.
        resamples: Draws.
        seed: Of the draws.
    """
    each = np.array(
        [resampled(run, resamples, seed) for run in arm]
    )  # seeds x classes x scores x R
    once = np.array([resampled(run, None) for run in arm])
    single, found = estimates(arm[0], 1), {}
    for name, of_class in single.items():
        classes = list(range(len(arm[0].classes))) if name == MEAN else [arm[0].classes.index(name)]
        drawn = over_runs(
            np.array([over_classes(run[classes]) for run in each]), [seed, 0]
        )  # scores x R
        point = np.array([over_classes(run[classes])[:, 0] for run in once])  # seeds x scores
        found[name] = {
            score.name: (
                asdict(of_class[score.name])
                | _spread(
                    point[:, s], drawn[s], groups_counting(arm[0], score, classes) >= FEWEST_GROUPS
                )
            )
            for s, score in enumerate(arm[0].scores)
        }
    return found


def _spread(point: np.ndarray, drawn: np.ndarray, enough: bool) -> dict[str, Any]:
    low, high = interval(drawn, enough)
    undefined = len(drawn) - int(np.isfinite(drawn).sum()) if enough else 0
    sd = float(point.std(ddof=1)) if len(point) > 1 else None
    return {
        "value": float(point.mean()),
        "low": low,
        "high": high,
        "degenerate": undefined,
        "sd": sd,
    }


def caveat_of(arm: Sequence[Evidence], of: str = "seeds") -> str:
    """What the intervals assume, in one sentence.

    Args:
        arm: As above.
        of: What the fits differ in.
    """
    if len(arm) == 1:
        return caveat(arm[0])
    if len(np.unique(arm[0].groups)) < FEWEST_GROUPS:
        return f"means of {len(arm)} {of}; {caveat(arm[0])}"
    few = f", of which {len(arm)} tell little" if len(arm) < 5 else ""
    return f"means of {len(arm)} {of}; {caveat(arm[0])}; each draw also draws among the {of}{few}"
