"""The difference to the run that is best on val, in words."""

from math import isnan

from callbacks.comparison.paired import PairedDifference

BEST_ON_VAL, BETTER, WORSE, NOT_DISTINGUISHABLE, TOO_FEW_GROUPS = (
    "best on val",
    "better",
    "worse",
    "not distinguishable",
    "too few groups",
)
UNDEFINED_ON_TEST = "not defined on test"


def significance_label(difference: PairedDifference, lower_is_better: bool = False) -> str:
    """Say `better` or `worse` on test where the 95 % interval of the difference holds no 0.

    Args:
        difference: A run's score on test minus that of the run which is best on val.
        lower_is_better: Whether less of the score is better.
    """
    if isnan(difference.value):
        return UNDEFINED_ON_TEST
    if difference.low is None or difference.high is None:
        return TOO_FEW_GROUPS
    if difference.low <= 0 <= difference.high:
        return NOT_DISTINGUISHABLE
    return BETTER if (difference.low > 0) != lower_is_better else WORSE
