"""The difference to the run that is best on val, in words."""

from math import isnan

from callbacks.comparison.paired import Difference

BEST, BETTER, WORSE, ALIKE, FEW = (
    "best on val",
    "better",
    "worse",
    "not distinguishable",
    "too few groups",
)
UNDEFINED = "not defined on test"


def verdict(gap: Difference, lower: bool = False) -> str:
    """Say `better` or `worse` on test where the 95 % interval of the difference holds no 0.

    Args:
        gap: A run's score on test minus that of the run which is best on val.
        lower: Whether less of the score is better.
    """
    if isnan(gap.value):
        return UNDEFINED
    if gap.low is None or gap.high is None:
        return FEW
    if gap.low <= 0 <= gap.high:
        return ALIKE
    return BETTER if (gap.low > 0) != lower else WORSE
