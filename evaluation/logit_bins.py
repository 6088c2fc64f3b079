"""Bins of quantized logits and their probabilities; this module does not import torch."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

N_BINS = 256
HALF_BIN = 128  # the byte of probability .5
BINS_PER_LOGIT = 8.0  # bins per unit of logit
LOGIT_OFFSET = 16.0  # the logit of byte 0 is -OFFSET


def quantize_logits(logit: "Tensor") -> "Tensor":
    """Quantize a float tensor of any shape to uint8 `clamp(floor((logit + 16) * 8), 0, 255)`."""
    return _to_levels(logit.float()).byte()


def quantize_array(logit: np.ndarray) -> np.ndarray:
    """Quantize a float array of any shape to uint8, as `quantize_logits` does."""
    return _to_levels(logit.astype(np.float32, copy=False)).astype(np.uint8)


def _to_levels(logit: Any) -> Any:
    """Scale float32 logits, an array or a tensor, to the bytes before they are cut to integers."""
    return ((logit + LOGIT_OFFSET) * BINS_PER_LOGIT).clip(0, N_BINS - 1)


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
