"""Measurements on masks: numbers that histograms of pixels do not hold, such as distances.

A measurement is one file of this folder with one subclass of `MaskMeasurement`; the file's name is
the measurement's name. It needs no registration: the module measures it on each test image at the
frozen rule, the evidence keeps its columns, and its scores stand with their bootstrap intervals in
report.json, on the page, in comparisons and on the leaderboard.
"""

import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import PlainValidator

from datamodules.arguments import ArgumentError, describe_unknown, format_config_value
from evaluation.metrics.base import Metric, safe_divide

Spacing = tuple[float, float]  # mm from row to row, and from column to column


class MaskMeasurement(ABC):
    """Numbers measured on the predicted and the true mask of one image and class.

    Subclasses are `config_dataclass`es; their fields are the keys below `module.measurements.NAME`.

    Attributes:
        columns: Names of the numbers that `measure` returns. All are finite; a ratio has a column
            for its numerator and one for its denominator.
        headline_scores: Names of the scores that a page leads with and comparisons show.
    """

    columns: ClassVar[tuple[str, ...]]
    headline_scores: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def measure(
        self, predicted: np.ndarray, truth: np.ndarray, spacing: Spacing | None
    ) -> tuple[float, ...]:
        """Measure one image and class.

        Args:
            predicted: Mask at the rule in force, bool `H x W` on the evaluation grid.
            truth: True mask in the same form.
            spacing: Distance of neighboring pixels of that grid in mm; None where it is not known
                of every test image.

        Returns:
            One number for each of `columns`.
        """

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Scores that follow from weighted sums of the columns."""

    @property
    def needs_spacing(self) -> bool:
        """True if the pixel spacing of every test image must be known."""
        return False

    def at_spacing(self, known: bool) -> "MaskMeasurement":
        """Return the measurement for test images whose pixel spacing is known, or is not."""
        return self

    def describe_empty_masks(self, missed: int, invented: int, neither: int) -> str:
        """Return a sentence on the scores of images without a predicted or a true mask, or nothing.

        Args:
            missed: Images that show the class and have no predicted mask.
            invented: Images that do not show it and have one.
            neither: Images without any mask.
        """
        return ""


def ratio_of_sums(numerator: str, denominator: str) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Make the score: the weighted sum of one column over that of another.

    It is NaN where the denominator is 0, and where the decision has no such columns.
    """

    def compute(decision: Any, weights: np.ndarray) -> np.ndarray:
        """Return the score for each row of weights."""
        if numerator not in decision.columns:
            return np.full(len(weights), np.nan)
        return safe_divide(
            weights @ decision.columns[numerator], weights @ decision.columns[denominator]
        )

    return compute


@lru_cache
def find_measurements() -> dict[str, type[MaskMeasurement]]:
    """Return name -> class of every measurement in this folder, in alphabetical order."""
    package = __name__.rpartition(".")[0]
    found: dict[str, type[MaskMeasurement]] = {}
    for module in sorted(each.name for each in pkgutil.iter_modules([str(Path(__file__).parent)])):
        for value in vars(import_module(f"{package}.{module}")).values():
            if isinstance(value, type) and issubclass(value, MaskMeasurement):
                if value.__module__ == f"{package}.{module}" and value is not MaskMeasurement:
                    found[module] = value
    return found


def make_measurements(settings: Mapping[str, Any] | None) -> dict[str, MaskMeasurement]:
    """Make the measurements of a module.

    Args:
        settings: Name -> the measurement's own settings; null leaves it out. One that is not named
            is made with its defaults.

    Raises:
        ArgumentError: An unknown name, or settings that the measurement does not allow.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise ArgumentError(
            "", (), f"={format_config_value(settings)} is not allowed; it must be a mapping"
        )
    given, known = settings or {}, find_measurements()
    for name in given:
        if name not in known:
            problem = describe_unknown(str(name), "file", "evaluation/metrics", list(known))
            raise ArgumentError("", (str(name),), problem)
    return {
        name: _make_measurement(name, kind, given.get(name, {}))
        for name, kind in known.items()
        if given.get(name, {}) is not None
    }


def _make_measurement(name: str, kind: type[MaskMeasurement], settings: Any) -> MaskMeasurement:
    if isinstance(settings, MaskMeasurement):
        return settings
    if not isinstance(settings, Mapping):
        value = format_config_value(settings)
        raise ArgumentError("", (name,), f"={value} is not allowed; it must be a mapping, or null")
    try:
        return kind(**{str(key): value for key, value in settings.items()})
    except ArgumentError as error:
        raise ArgumentError("", (name, *error.path), error.problem) from error


Measurements = Annotated[Mapping[str, Any] | None, PlainValidator(make_measurements)]


def describe_measurements(measurements: Mapping[str, MaskMeasurement]) -> str:
    """Return names, columns and settings as text, which evidence keeps beside the columns."""
    return json.dumps(
        {
            name: {"columns": list(each.columns), "settings": asdict(each)}  # type: ignore[call-overload]
            for name, each in measurements.items()
        }
    )


@lru_cache
def parse_measurements(
    description: str,
) -> tuple[tuple[MaskMeasurement | None, tuple[str, ...]], ...]:
    """Read what `describe_measurements` wrote: each measurement, and its columns.

    A measurement is None where this version of the repository does not have it, or has it with
    other columns or settings; its columns are kept and not used.
    """
    found = []
    for name, stored in json.loads(description).items():
        kind = find_measurements().get(name)
        columns = tuple(stored["columns"])
        try:
            known = kind(**stored["settings"]) if kind and kind.columns == columns else None
        except ArgumentError:
            known = None
        found.append((known, columns))
    return tuple(found)


def shared_measurements(descriptions: Sequence[str]) -> list[str]:
    """Return the names of the measurements that all descriptions have with equal settings."""
    first, *others = map(json.loads, descriptions)
    return [
        name for name, stored in first.items() if all(other.get(name) == stored for other in others)
    ]
