"""Finds the threshold and the temperature that suit validation evidence best."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from datamodules.refusal import Refusal

OBJECTIVES = ("f1", "youden", "accuracy")
MEASURES = ("sensitivity", "specificity", "precision")
TIE = 1e-9


@dataclass(frozen=True)
class Demand:
    """What a threshold has to maximise and to keep.

    Attributes:
        objective: `f1`, `youden` (sensitivity + specificity - 1) or `accuracy`.
        at_least: Lower bounds of sensitivity, specificity or precision.
        between: Smallest and largest threshold that may be taken.
    """

    objective: str
    at_least: Mapping[str, float]
    between: tuple[float, float]

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise Refusal(f"callbacks.threshold_search.objective={self.objective} is unknown; take {', '.join(OBJECTIVES)}")
        for name, value in self.at_least.items():
            if name not in MEASURES or not 0 < value <= 1:
                bounds = f"bound {', '.join(MEASURES)} by a number from 0 to 1"
                raise Refusal(f"callbacks.threshold_search.at_least={{{name}: {value}}} cannot be kept; {bounds}")
        low, high = self.between
        if not 0 <= low < high <= 1:
            raise Refusal(f"callbacks.threshold_search.between=[{low},{high}] is no range of probabilities; take two numbers from 0 to 1")


@dataclass(frozen=True)
class Found:
    """The best threshold of one class.

    Attributes:
        threshold: Of the probability.
        score: The objective there.
        at_half: The objective at .5.
        trivial: Whether saying always the same scores as well.
        missed: Why the bounds could not be kept, in words, or None.
        unsearched: Why nothing was searched, in words, or None.
    """

    threshold: float
    score: float
    at_half: float
    trivial: bool
    missed: str | None
    unsearched: str | None = None


def search(probability: np.ndarray, truth: np.ndarray, demand: Demand) -> Found:
    """The best threshold among all that decide differently; ties take the middle of the plateau.

    Args:
        probability: `N`.
        truth: bool `N`.
        demand: What to maximise and to keep; where it cannot be kept, the threshold that comes nearest is found.
    """
    if truth.all() or not truth.any():
        return Found(0.5, float("nan"), float("nan"), False, None, "val shows no other label, so there is nothing to search on")
    thresholds = _thresholds(probability, demand.between)
    measured = _measures(probability, truth, thresholds)
    values, kept, missed = measured[demand.objective], np.ones(len(thresholds), bool), None
    for number, (name, least) in enumerate(demand.at_least.items()):
        now = kept & (measured[name] >= least - TIE)
        if not now.any():
            missed = _missed(demand, number, float(measured[name][kept].max()))
            now = kept & (measured[name] >= measured[name][kept].max() - TIE)
        kept = now
    best = np.flatnonzero(kept & (values >= values[kept].max() - TIE))
    chosen = best[np.abs(best - np.median(best)).argmin()]
    at_half = float(_measures(probability, truth, np.array([0.5]))[demand.objective][0])
    always = _measures(probability, truth, np.array([0.0, 2.0]))[demand.objective].max()
    return Found(float(thresholds[chosen]), float(values[chosen]), at_half, bool(values[chosen] <= always + TIE), missed)


def _missed(demand: Demand, number: int, best: float) -> str:
    bounds = [f"{name} >= {least:g}" for name, least in demand.at_least.items()]
    others = f" beside {' and '.join(bounds[:number])}" if number else ""
    low, high = demand.between
    return f"no threshold from {low:g} to {high:g} reaches {bounds[number]}{others} on val; the best reachable is {best:.4f}"


def _thresholds(probability: np.ndarray, between: tuple[float, float]) -> np.ndarray:
    """Falling: one in the middle between each two neighbouring probabilities, and one on either side of all."""
    distinct = np.unique(probability)[::-1]
    middles = (np.concatenate([[1.0], distinct]) + np.concatenate([distinct, [0.0]])) / 2
    inside = middles[(middles >= between[0]) & (middles <= between[1])]
    return np.unique(np.concatenate([inside, between]))[::-1] if between != (0.0, 1.0) else middles


def _measures(probability: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    positive, negative = np.sort(probability[truth]), np.sort(probability[~truth])
    tp = len(positive) - np.searchsorted(positive, thresholds)
    fp = len(negative) - np.searchsorted(negative, thresholds)
    sensitivity, specificity = tp / max(1, len(positive)), 1 - fp / max(1, len(negative))
    return {
        "f1": 2 * tp / np.maximum(1, tp + fp + len(positive)),
        "youden": sensitivity + specificity - 1,
        "accuracy": (tp + len(negative) - fp) / max(1, len(truth)),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": tp / np.maximum(1, tp + fp),
    }


def temperature(logits: np.ndarray, truth: np.ndarray, exclusive: bool) -> float:
    """The divisor of logits that makes their probabilities most likely (Guo et al. 2017), from .05 to 20.

    Args:
        logits: `N` of one class, or `N x C` of exclusive ones.
        truth: 0 or 1, of the same shape.
        exclusive: Softmax over classes instead of a sigmoid.
    """
    logits, truth = logits.astype(np.float64), truth.astype(np.float64)
    if (truth == truth[:1]).all():
        return 1.0  # one label alone would ask for endless certainty

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if exclusive:
            return float(-(truth * log_softmax(scaled, axis=1)).sum(1).mean())
        return float(-(truth * log_expit(scaled) + (1 - truth) * log_expit(-scaled)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))

