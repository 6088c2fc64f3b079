"""Demand on a classification threshold, apart from its search so that it is checked at once."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from datamodules.arguments import ArgumentError, FractionRange, config_dataclass

OBJECTIVE_HINTS = {  # names that other repositories use
    "sens_atleast": "take specificity with callbacks.threshold_search.min_metrics.sensitivity=0.85",
    "spec_atleast": "take sensitivity with callbacks.threshold_search.min_metrics.specificity=0.85",
}


def _explain_foreign_name(objective: Any) -> Any:
    """Refuse a name that other repositories use, and say what it is called here."""
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
    """Demand on a threshold: the objective to maximise, and bounds to keep.

    Attributes:
        objective: `f1`, `youden` (sensitivity + specificity - 1), `accuracy`; `sensitivity` or
            `specificity` while the other is bounded.
        min_metrics: Lower bounds of sensitivity, specificity or precision.
        threshold_range: Smallest and largest threshold that may be taken.
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
                f"={self.objective} alone is best where always the same is said; set"
                f" callbacks.threshold_search.min_metrics.{other}=0.85",
            )
        low, high = self.threshold_range
        if low == high:
            raise ArgumentError(
                "",
                ("threshold_range",),
                f"=[{low},{high}] holds one threshold; take two different numbers from 0 to 1",
            )
