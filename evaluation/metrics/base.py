"""Scores: a name, a definition, the images that count, and a function of decision and weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np


class Decision(Protocol):
    """One class of an evaluation after the decision."""

    @property
    def positive(self) -> np.ndarray:
        """Bool `N`: which images truly show the class."""


@dataclass(frozen=True)
class Metric:
    """A score and how it is defined.

    Attributes:
        name: As it stands in report.json.
        definition: One sentence.
        population: Which images count: all, or those that truly show the class, or those that do
            not; `both` counts all if there are some of both kinds, else none; or a function from
            the decision to bool `N`.
        compute: From the decision and weights `R x N` (how often each image counts) to `R` values,
            NaN where undefined.
        lower_is_better: True for errors and distances.
        threshold_free: True if the score has one value, whatever threshold the page's slider shows:
            it needs none, or is measured at the frozen rule alone.
        unit: Of the value, such as `mm`; empty if it has none.
        biased_by_sampling: True if the value grows with sampling noise, as a sum of absolute gaps
            does, so that each bootstrap replicate adds the noise once more; its interval is
            corrected for that.
    """

    name: str
    definition: str
    population: Literal["all", "positive", "negative", "both"] | Callable[[Any], np.ndarray]
    compute: Callable[[Any, np.ndarray], np.ndarray]
    lower_is_better: bool = False
    threshold_free: bool = False
    unit: str = ""
    biased_by_sampling: bool = False

    def counted_images(self, decided: Decision) -> np.ndarray:
        """Bool `N`: which images the score is made of."""
        if callable(self.population):
            return self.population(decided)
        return {
            "all": np.ones(len(decided.positive), bool),
            "positive": decided.positive,
            "negative": ~decided.positive,
            "both": np.full(
                len(decided.positive), decided.positive.any() and not decided.positive.all()
            ),
        }[self.population]


def precision_of(tp: np.ndarray, predicted: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return TP over all predicted; 0 if nothing is predicted though there are positives.

    It is scikit-learn's precision with `zero_division=0`, and NaN where there is neither.
    """
    missed = (predicted == 0) & (positive > 0)
    return np.where(missed, 0.0, safe_divide(tp, predicted))


def safe_divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
