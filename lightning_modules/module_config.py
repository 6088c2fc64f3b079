"""Nested settings of a module, in a file of their own to be checked without loading PyTorch."""

from collections.abc import Sequence
from typing import Literal

from datamodules.arguments import PositiveFloat, config_dataclass


@config_dataclass
class MonitorConfig:
    """Score that selects the best checkpoint.

    Attributes:
        name: Name of the logged score, such as `val/dice`.
        mode: `max` if a higher score is better, else `min`.
    """

    name: str
    mode: Literal["max", "min"]


@config_dataclass
class ScratchNormalization:
    """Normalization of a network without pretrained weights.

    Attributes:
        mean: Mean per input channel, for pixels scaled to 0..1; None for 0.
        std: Standard deviation in the same form; None for 1.
    """

    mean: Sequence[float] | None = None
    std: Sequence[PositiveFloat] | None = None
