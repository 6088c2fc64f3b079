"""Scores of weak localisation with intervals over patients, and the table of several methods."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from callbacks.pseudo_labels.froc import froc
from callbacks.pseudo_labels.localisation_rules import LocalisationRules, froc_at
from callbacks.pseudo_labels.measured import Localised
from lightning_modules.score import safe_divide
from lightning_modules.uncertainty import (
    BLOCK,
    MIN_GROUPS,
    Estimate,
    group_weights,
    percentile_interval,
)

BLIND = {"a random pixel": "random", "the centre": "centre"}


def estimates(seen: Localised, rules: LocalisationRules) -> dict[str, Estimate]:
    """Score -> estimate with its 95 % percentile interval over patients; of the pointing game what blind guesses score, too.

    There is no interval where fewer than 20 patients with a lesion count. `n` counts images: of a
    FROC all, else those with a lesion (or true mask).
    """
    point, drawn = values(seen, rules), resampled(seen, rules)
    return {
        name: _estimate(seen, name, sentence, point, drawn)
        for name, sentence in rules.definitions().items()
    }


def as_table(found: Mapping[str, Mapping[str, Estimate]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> score -> value, low, high, n, degenerate, trivial and definition, as report.json has them; what is undefined is None."""
    return {
        method: {name: _row(score) for name, score in scores.items()}
        for method, scores in found.items()
    }


def _row(score: Estimate) -> dict[str, Any]:
    return asdict(score) | {
        "value": _finite(score.value),
        "trivial": {name: _finite(blind) for name, blind in score.trivial.items()},
    }


def resampled(seen: Localised, rules: LocalisationRules) -> dict[str, np.ndarray]:
    """Score -> its value on each resample of the patients; of methods on the same images the same resamples. Empty if they are too few."""
    if patients(seen, seen.lesions > 0) < MIN_GROUPS:
        return {}
    few = max(
        1, BLOCK // (4 * max(1, len(seen.events.score)))
    )  # resamples of a FROC, which holds several arrays of that size
    blocks = [
        _weighted(seen, rules, block[start : start + few])
        for block in group_weights(seen.groups, rules.resamples, rules.seed)
        for start in range(0, len(block), few)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def values(seen: Localised, rules: LocalisationRules) -> dict[str, float]:
    """Score -> its value on the images as they are; NaN where no image counts."""
    return {
        name: float(value[0])
        for name, value in _weighted(seen, rules, np.ones((1, len(seen.ids)))).items()
    }


def counting(seen: Localised, name: str) -> np.ndarray:
    """Bool `N`: the images that a score is made of."""
    if name in seen.means:
        return np.isfinite(seen.means[name])
    return np.ones(len(seen.ids), bool) if name.startswith("froc") else seen.lesions > 0


def patients(seen: Localised, among: np.ndarray) -> int:
    """How many patients the images marked in a bool `N` belong to."""
    return len(np.unique(seen.groups[among]))


def _weighted(
    seen: Localised, rules: LocalisationRules, weights: np.ndarray
) -> dict[str, np.ndarray]:
    return dict(_means(seen, weights)) | dict(_frocs(seen, rules, weights))


def _means(seen: Localised, weights: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for name, own in seen.means.items():
        counts = np.isfinite(own)
        yield (
            name,
            safe_divide(weights @ np.where(counts, own, 0), weights @ counts.astype(np.float64)),
        )
    for name, sums in seen.sums.items():
        yield name, safe_divide(weights @ sums, weights @ seen.lesions)


def _frocs(
    seen: Localised, rules: LocalisationRules, weights: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    curve = froc(seen.events, seen.lesions, weights)
    read = {froc_at(rate): curve.at(rate) for rate in rules.rates}
    yield from read.items()
    yield "froc_mean", np.mean(list(read.values()), axis=0)
    yield "froc_area", curve.area(rules.area_to)


def _estimate(
    seen: Localised, name: str, sentence: str, point: dict[str, float], drawn: dict[str, np.ndarray]
) -> Estimate:
    counts = counting(seen, name)
    enough = name in drawn and patients(seen, counts) >= MIN_GROUPS
    draws = drawn[name] if enough else np.zeros(0)
    low, high = percentile_interval(draws, enough)
    degenerate = int(np.isnan(draws).sum())
    blind = {
        words: point[f"{name}_{kind}"] for words, kind in BLIND.items() if f"{name}_{kind}" in point
    }
    return Estimate(
        point.get(name, np.nan), low, high, int(counts.sum()), degenerate, blind, sentence
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
