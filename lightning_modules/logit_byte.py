"""A logit as one byte, and back: byte k means probability sigmoid(k/8 - 16), and .5 is k = 128.

The steps are uniform in the logit, because networks trained with class weights are shifted and
sharpened.
"""

import math

import numpy as np
import torch
from torch import Tensor

LEVELS = 256
HALF = 128  # the byte of probability .5
STEPS = 8.0  # bytes a unit of logit
OFFSET = 16.0  # the logit of byte 0 is -OFFSET


def quantize(logit: Tensor) -> Tensor:
    """uint8 `clamp(floor((logit + 16) * 8), 0, 255)` of a float tensor of any shape."""
    return ((logit.float() + OFFSET) * STEPS).clamp_(0, LEVELS - 1).to(torch.uint8)


def bin_of(probability: float) -> int:
    """Return the lowest byte of at least this probability; LEVELS if no byte reaches it."""
    if probability <= 0:
        return 0
    if probability >= 1:
        return LEVELS
    return min(
        LEVELS,
        max(0, math.ceil((math.log(probability / (1 - probability)) + OFFSET) * STEPS - 1e-9)),
    )


def bin_probability(byte: np.ndarray | float) -> np.ndarray:
    """The probability at the lower edge of a byte."""
    return 1 / (1 + np.exp(OFFSET - np.asarray(byte, np.float64) / STEPS))
