"""Bins of quantized logits and their probabilities; this module does not import torch."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

N_BINS = 256
HALF_BIN = 128  # the byte of probability .5
BINS_PER_LOGIT = 8.0  # bins per unit of logit
LOGIT_OFFSET = 16.0  # the logit of byte 0 is -OFFSET


def quantize_logits(logit: "Tensor") -> "Tensor":
    """Quantize a float tensor of any shape to uint8 `clamp(floor((logit + 16) * 8), 0, 255)`."""
    return ((logit.float() + LOGIT_OFFSET) * BINS_PER_LOGIT).clamp_(0, N_BINS - 1).byte()


def bin_of(probability: float) -> int:
    """Return the lowest byte of at least this probability; N_BINS if no byte reaches it."""
    if probability <= 0:
        return 0
    if probability >= 1:
        return N_BINS
    return min(
        N_BINS,
        max(
            0,
            math.ceil(
                (math.log(probability / (1 - probability)) + LOGIT_OFFSET) * BINS_PER_LOGIT - 1e-9
            ),
        ),
    )


def bin_probability(byte: np.ndarray | float) -> np.ndarray:
    """Return the probability at the lower edge of a byte."""
    return 1 / (1 + np.exp(LOGIT_OFFSET - np.asarray(byte, np.float64) / BINS_PER_LOGIT))
