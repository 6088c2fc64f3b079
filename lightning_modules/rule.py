"""Decision rule of a network: three numbers per class, searched on validation evidence.

They are saved with the weights.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class DecisionRule(nn.Module):
    """Base class of the decision rules for masks and labels.

    The numbers are saved as extra state rather than as buffers: weight averaging swaps and averages
    every buffer it finds.

    Args:
        start: The three numbers before any search.
        classes: Number of classes.
    """

    def __init__(self, start: tuple[float, float, float], classes: int) -> None:
        super().__init__()
        self.numbers = torch.tensor([start] * classes, dtype=torch.float64)  # classes x 3
        self.start = self.numbers.clone()

    def get_extra_state(self) -> Tensor:
        """Return the numbers that a checkpoint keeps, `classes x 3` doubles."""
        return self.numbers

    def set_extra_state(self, state: Any) -> None:
        """Take the numbers of a checkpoint."""
        self.numbers = state.to(torch.float64).cpu()

    @abstractmethod
    def as_dict(self) -> list[dict[str, float]]:
        """Return the rule of each class, name and value."""
