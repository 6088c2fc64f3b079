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
            not.
        compute: From the decision and weights `R x N` (how often each image counts) to `R` values,
            NaN where undefined.
    """

    name: str
    definition: str
    population: Literal["all", "positive", "negative"]
    compute: Callable[[Any, np.ndarray], np.ndarray]

    def counted_images(self, decided: Decision) -> np.ndarray:
        """Bool `N`: which images the score is made of."""
        return {
            "all": np.ones(len(decided.positive), bool),
            "positive": decided.positive,
            "negative": ~decided.positive,
        }[self.population]


def safe_divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
