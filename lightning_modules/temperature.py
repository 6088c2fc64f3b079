"""Finds the temperature that calibrates the logits of validation evidence."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax


def fit_temperature(logits: np.ndarray, truth: np.ndarray, exclusive: bool) -> float:
    """Find the divisor of logits, .05 to 20, of the highest likelihood (Guo et al. 2017).

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

    return float(
        np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x)
    )
