"""Objective of the classification threshold, in a light module so that it is checked early."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from datamodules.arguments import ArgumentError, FractionRange, config_dataclass

OBJECTIVE_HINTS = {  # names that other repositories use
    "sens_atleast": "set specificity with callbacks.threshold_search.min_metrics.sensitivity=0.85",
    "spec_atleast": "set sensitivity with callbacks.threshold_search.min_metrics.specificity=0.85",
}


def _explain_foreign_name(objective: Any) -> Any:
    """Refuse a name that other repositories use, and give its name in this one."""
    if isinstance(objective, str) and objective in OBJECTIVE_HINTS:
        raise ArgumentError("", (), f"={objective} is unknown; {OBJECTIVE_HINTS[objective]}")
    return objective


Objective = Annotated[
    Literal["f1", "youden", "accuracy", "sensitivity", "specificity"],
    BeforeValidator(_explain_foreign_name),
]
BoundedMetric = Literal["sensitivity", "specificity", "precision"]
LowerBound = Annotated[float, Field(gt=0, le=1)]


@config_dataclass
class ThresholdObjective:
    """Objective of a threshold search, with bounds to satisfy.

    Attributes:
        objective: `f1`, `youden` (sensitivity + specificity - 1), `accuracy`; or `sensitivity` or
            `specificity` if the other one is bounded.
        min_metrics: Lower bounds of sensitivity, specificity or precision.
        threshold_range: Smallest and largest allowed threshold.
    """

    objective: Objective
    min_metrics: Mapping[BoundedMetric, LowerBound]
    threshold_range: FractionRange

    def __post_init__(self) -> None:
        if self.objective in ("sensitivity", "specificity") and not self.min_metrics.keys() - {
            self.objective
        }:
            other = {"sensitivity": "specificity", "specificity": "sensitivity"}[self.objective]
            raise ArgumentError(
                "",
                ("objective",),
                f"={self.objective} alone is highest for a constant prediction; set"
                f" callbacks.threshold_search.min_metrics.{other}=0.85",
            )
        low, high = self.threshold_range
        if low == high:
            raise ArgumentError(
                "",
                ("threshold_range",),
                f"=[{low},{high}] holds one threshold; set two different numbers from 0 to 1",
            )
