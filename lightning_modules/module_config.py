"""Nested settings of a module, apart from it so that they are checked without loading PyTorch."""

from collections.abc import Sequence
from typing import Literal

from datamodules.arguments import PositiveFloat, config_dataclass


@config_dataclass
class MonitorConfig:
    """The score that decides what is best.

    Attributes:
        name: As it is logged, such as `val/dice`.
        mode: `max` if a higher score is better, else `min`.
    """

    name: str
    mode: Literal["max", "min"]


@config_dataclass
class ScratchNormalization:
    """The normalization of a network without pretrained weights.

    Attributes:
        mean: Per input channel, of pixels scaled to 0..1; None for 0.
        std: In the same form; None for 1.
    """

    mean: Sequence[float] | None = None
    std: Sequence[PositiveFloat] | None = None
