"""Scores of weak localisation with intervals over patients, and the table of several methods."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from callbacks.pseudo_labels.froc import froc_curve
from callbacks.pseudo_labels.localisation_rules import LocalizationConfig, froc_score_name
from callbacks.pseudo_labels.measured import LocalizationResults
from lightning_modules.score import safe_divide
from lightning_modules.uncertainty import (
    BLOCK,
    MIN_GROUPS,
    Estimate,
    group_weights,
    percentile_interval,
)

BLIND_GUESSES = {"a random pixel": "random", "the centre": "centre"}


def estimate_scores(results: LocalizationResults, rules: LocalizationConfig) -> dict[str, Estimate]:
    """Score -> estimate with its 95 % percentile interval over patients; of the pointing game what blind guesses score, too.

    There is no interval where fewer than 20 patients with a lesion count. `n` counts images: of a
    FROC all, else those with a lesion (or true mask).
    """
    point, drawn = compute_scores(results, rules), resample_scores(results, rules)
    return {
        name: _build_estimate(results, name, sentence, point, drawn)
        for name, sentence in rules.definitions().items()
    }


def to_table(
    estimates: Mapping[str, Mapping[str, Estimate]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Method -> score -> value, low, high, n, degenerate, trivial and definition, as report.json has them; what is undefined is None."""
    return {
        method: {name: _estimate_row(score) for name, score in scores.items()}
        for method, scores in estimates.items()
    }


def _estimate_row(score: Estimate) -> dict[str, Any]:
    return asdict(score) | {
        "value": _finite_or_none(score.value),
        "trivial": {name: _finite_or_none(blind) for name, blind in score.trivial.items()},
    }


def resample_scores(
    results: LocalizationResults, rules: LocalizationConfig
) -> dict[str, np.ndarray]:
    """Score -> its value on each resample of the patients; of methods on the same images the same resamples. Empty if they are too few."""
    if count_patients(results, results.n_lesions > 0) < MIN_GROUPS:
        return {}
    few = max(
        1, BLOCK // (4 * max(1, len(results.events.score)))
    )  # resamples of a FROC, which holds several arrays of that size
    blocks = [
        _weighted_scores(results, rules, block[start : start + few])
        for block in group_weights(results.groups, rules.resamples, rules.seed)
        for start in range(0, len(block), few)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def compute_scores(results: LocalizationResults, rules: LocalizationConfig) -> dict[str, float]:
    """Score -> its value on the images as they are; NaN where no image counts."""
    return {
        name: float(value[0])
        for name, value in _weighted_scores(results, rules, np.ones((1, len(results.ids)))).items()
    }


def counted_images(results: LocalizationResults, score_name: str) -> np.ndarray:
    """Bool `N`: the images that a score is made of."""
    if score_name in results.means:
        return np.isfinite(results.means[score_name])
    return (
        np.ones(len(results.ids), bool) if score_name.startswith("froc") else results.n_lesions > 0
    )


def count_patients(results: LocalizationResults, selected: np.ndarray) -> int:
    """How many patients the images marked in a bool `N` belong to."""
    return len(np.unique(results.groups[selected]))


def _weighted_scores(
    results: LocalizationResults, rules: LocalizationConfig, weights: np.ndarray
) -> dict[str, np.ndarray]:
    return dict(_weighted_means(results, weights)) | dict(
        _weighted_froc_scores(results, rules, weights)
    )


def _weighted_means(
    results: LocalizationResults, weights: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    for name, own in results.means.items():
        counts = np.isfinite(own)
        yield (
            name,
            safe_divide(weights @ np.where(counts, own, 0), weights @ counts.astype(np.float64)),
        )
    for name, sums in results.sums.items():
        yield name, safe_divide(weights @ sums, weights @ results.n_lesions)


def _weighted_froc_scores(
    results: LocalizationResults, rules: LocalizationConfig, weights: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    curve = froc_curve(results.events, results.n_lesions, weights)
    read = {froc_score_name(rate): curve.sensitivity_at(rate) for rate in rules.rates}
    yield from read.items()
    yield "froc_mean", np.mean(list(read.values()), axis=0)
    yield "froc_area", curve.partial_auc(rules.froc_auc_limit)


def _build_estimate(
    results: LocalizationResults,
    score_name: str,
    definition: str,
    point_values: dict[str, float],
    bootstrap_values: dict[str, np.ndarray],
) -> Estimate:
    counts = counted_images(results, score_name)
    enough = score_name in bootstrap_values and count_patients(results, counts) >= MIN_GROUPS
    draws = bootstrap_values[score_name] if enough else np.zeros(0)
    low, high = percentile_interval(draws, enough)
    degenerate = int(np.isnan(draws).sum())
    blind = {
        words: point_values[f"{score_name}_{kind}"]
        for words, kind in BLIND_GUESSES.items()
        if f"{score_name}_{kind}" in point_values
    }
    return Estimate(
        point_values.get(score_name, np.nan),
        low,
        high,
        int(counts.sum()),
        degenerate,
        blind,
        definition,
    )


def _finite_or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
