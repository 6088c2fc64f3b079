"""Finds the threshold that suits validation evidence best."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datamodules.refusal import UserError

OBJECTIVES = ("f1", "youden", "accuracy", "sensitivity", "specificity")
THRESHOLD_METRICS = ("sensitivity", "specificity", "precision")
OBJECTIVE_ALIASES = {  # names that other repositories use
    "sens_atleast": "take specificity with callbacks.threshold_search.min_metrics.sensitivity=0.85",
    "spec_atleast": "take sensitivity with callbacks.threshold_search.min_metrics.specificity=0.85",
}
CLASSIFICATION_TIE = 1e-9


@dataclass(frozen=True)
class ThresholdObjective:
    """Demand on a threshold: the objective to maximise, and bounds to keep.

    Attributes:
        objective: `f1`, `youden` (sensitivity + specificity - 1), `accuracy`; `sensitivity` or
            `specificity` while the other is bounded.
        at_least: Lower bounds of sensitivity, specificity or precision.
        between: Smallest and largest threshold that may be taken.
    """

    objective: str
    at_least: Mapping[str, float]
    between: tuple[float, float]

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            told = OBJECTIVE_ALIASES.get(self.objective, f"take {', '.join(OBJECTIVES)}")
            raise UserError(
                f"callbacks.threshold_search.objective={self.objective} is unknown; {told}"
            )
        for name, value in self.at_least.items():
            if name not in THRESHOLD_METRICS or not 0 < value <= 1:
                bounds = f"bound {', '.join(THRESHOLD_METRICS)} by a number from 0 to 1"
                raise UserError(
                    f"callbacks.threshold_search.min_metrics={{{name}: {value}}} cannot be kept;"
                    f" {bounds}"
                )
        if self.objective in ("sensitivity", "specificity") and not self.at_least.keys() - {
            self.objective
        }:
            other = {"sensitivity": "specificity", "specificity": "sensitivity"}[self.objective]
            mend = f"set callbacks.threshold_search.min_metrics.{other}=0.85"
            raise UserError(
                f"callbacks.threshold_search.objective={self.objective} alone is best where always"
                f" the same is said; {mend}"
            )
        low, high = self.between
        if not 0 <= low < high <= 1:
            raise UserError(
                f"callbacks.threshold_search.threshold_range=[{low},{high}] is no range of probabilities;"
                " take two numbers from 0 to 1"
            )


@dataclass(frozen=True)
class ClassificationRuleResult:
    """The best threshold of one class.

    Attributes:
        threshold: Of the probability.
        score: The objective there.
        at_half: The objective at .5.
        trivial: True if a constant answer scores as well.
        missed: Why the bounds could not be kept, in words, or None.
        unsearched: Why nothing was searched, in words, or None.
    """

    threshold: float
    score: float
    at_half: float
    trivial: bool
    missed: str | None
    unsearched: str | None = None


def search_classification_rule(
    probability: np.ndarray, truth: np.ndarray, demand: ThresholdObjective
) -> ClassificationRuleResult:
    """Find the best threshold of all that decide differently; ties take the plateau's middle.

    Args:
        probability: `N`.
        truth: bool `N`.
        demand: What to maximise and to keep; where it cannot be kept, the threshold that comes
            nearest is found.
    """
    if truth.all() or not truth.any():
        return ClassificationRuleResult(
            0.5,
            float("nan"),
            float("nan"),
            False,
            None,
            "val shows no other label, so there is nothing to search on",
        )
    thresholds = _candidate_thresholds(probability, demand.between)
    measured = _threshold_metrics(probability, truth, thresholds)
    values, kept, missed = measured[demand.objective], np.ones(len(thresholds), bool), None
    for number, (name, least) in enumerate(demand.at_least.items()):
        now = kept & (measured[name] >= least - CLASSIFICATION_TIE)
        if not now.any():
            missed = _unmet_bounds(demand, number, float(measured[name][kept].max()))
            now = kept & (measured[name] >= measured[name][kept].max() - CLASSIFICATION_TIE)
        kept = now
    best = np.flatnonzero(kept & (values >= values[kept].max() - CLASSIFICATION_TIE))
    chosen = best[np.abs(best - np.median(best)).argmin()]
    at_half = float(_threshold_metrics(probability, truth, np.array([0.5]))[demand.objective][0])
    judge = (
        "youden" if demand.objective in ("sensitivity", "specificity") else demand.objective
    )  # a constant answer maximises either alone
    always = _threshold_metrics(probability, truth, np.array([0.0, 2.0]))[judge].max()
    return ClassificationRuleResult(
        float(thresholds[chosen]),
        float(values[chosen]),
        at_half,
        bool(measured[judge][chosen] <= always + CLASSIFICATION_TIE),
        missed,
    )


def metrics_at_threshold(
    probability: np.ndarray, truth: np.ndarray, threshold: float
) -> dict[str, float]:
    """Compute f1, youden, accuracy, sensitivity, specificity and precision at one threshold.

    Both arrays are `N`, of one class; `truth` is bool.
    """
    return {
        name: float(value[0])
        for name, value in _threshold_metrics(probability, truth, np.array([threshold])).items()
    }


def _unmet_bounds(demand: ThresholdObjective, number: int, best: float) -> str:
    bounds = [f"{name} >= {least:g}" for name, least in demand.at_least.items()]
    others = f" beside {' and '.join(bounds[:number])}" if number else ""
    low, high = demand.between
    return (
        f"no threshold from {low:g} to {high:g} reaches {bounds[number]}{others} on val; the best"
        f" reachable is {best:.4f}"
    )


def _candidate_thresholds(probability: np.ndarray, between: tuple[float, float]) -> np.ndarray:
    """Return falling thresholds: between neighbouring probabilities, and on either side of all.

    With `between`, those inside it and its two ends.
    """
    distinct = np.unique(probability)[::-1]
    middles = (np.concatenate([[1.0], distinct]) + np.concatenate([distinct, [0.0]])) / 2
    inside = middles[(middles >= between[0]) & (middles <= between[1])]
    return np.unique(np.concatenate([inside, between]))[::-1] if between != (0.0, 1.0) else middles


def _threshold_metrics(
    probability: np.ndarray, truth: np.ndarray, thresholds: np.ndarray
) -> dict[str, np.ndarray]:
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
