"""How much of the scores' differences each swept key explains, by Optuna's functional ANOVA; for grids too."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from callbacks.sweeps.tried import TrialResult
from callbacks.sweeps.words import parse_finite_number

MIN_TRIALS = 5  # trials with a score, below which nothing is said
LOG_SCALE_RATIO = (
    50.0  # a key whose largest value is so many times its smallest is looked at by its logarithm
)


def compute_importances(trials: Sequence[TrialResult]) -> tuple[dict[str, float], str]:
    """Key -> its share of the variance of the scores, the largest first; and a sentence, where there is something to say of it.

    Args:
        trials: Of one multirun; those that finished count.
    """
    scored = [trial for trial in trials if trial.state == "finished" and trial.score is not None]
    drawn = {key: of for key, of in infer_distributions(scored).items() if not of.single()}
    if len(scored) < MIN_TRIALS:
        return (
            {},
            (
                f"{len(scored)} finished trials are too few to tell which key matters; {MIN_TRIALS} are"
                " the least."
            ),
        )
    if not drawn or len({trial.score for trial in scored}) == 1:
        return (
            {},
            (
                "All finished trials have the same score, or the same values: nothing tells which"
                " key matters."
            ),
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize" if scored[0].mode == "min" else "maximize")
    study.add_trials(
        [
            optuna.create_trial(
                params=_trial_params(trial, drawn), distributions=dict(drawn), value=trial.score
            )
            for trial in scored
        ]
    )
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return (
        found,
        (
            f"Of {len(scored)} finished trials; with few of them this is rough, and keys that act"
            " together share what they explain."
        ),
    )


def infer_distributions(trials: Sequence[TrialResult]) -> dict[str, BaseDistribution]:
    """Key -> the range or the choices that the trials' values span."""
    keys = dict.fromkeys(key for trial in trials for key in trial.varied_values)
    return {
        key: _infer_distribution([trial.varied_values.get(key, "") for trial in trials])
        for key in keys
    }


def _infer_distribution(values: Sequence[str]) -> BaseDistribution:
    numbers = [parse_finite_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return CategoricalDistribution(list(dict.fromkeys(values)))
    low, high = min(known), max(known)
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_SCALE_RATIO)


def _trial_params(
    trial: TrialResult, distributions: Mapping[str, BaseDistribution]
) -> dict[str, Any]:
    return {
        key: (
            float(trial.varied_values[key])
            if isinstance(of, FloatDistribution)
            else trial.varied_values.get(key, "")
        )
        for key, of in distributions.items()
    }
