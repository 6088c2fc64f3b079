"""Settings of LoRA adapters and names of their parameters, which need no PyTorch."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from datamodules.arguments import AllowedValues, PositiveFloat, PositiveInt, config_dataclass


@config_dataclass
class AdapterConfig:
    """Configuration of low-rank adapters (Hu et al. 2022) in a network.

    Attributes:
        rank: Rank of the two factors of an adapter.
        alpha: Numerator of an adapter's weight alpha / rank.
        dropout: Dropout of its input in training; in convolutions whole channels are dropped
            (Tompson et al. 2015).
        targets: Names, or ends of names, of the layers to adapt; None for every Conv2d that is not
            grouped and every layer of an attention.
    """

    rank: Annotated[
        PositiveInt,
        AllowedValues(
            "a whole number of 1 or more, such as 8 (module.net.lora=null trains the head alone)"
        ),
    ]
    alpha: PositiveFloat
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Sequence[str] | None = None


def is_adapter(name: str) -> bool:
    """Return True for the name of an adapter's parameter."""
    return ".lora_" in name


def plain_name(name: str) -> str:
    """Return the name that a parameter of an adapted layer has in the plain network."""
    return name.replace(".base_layer.", ".")
