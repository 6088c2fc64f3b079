"""Logits become labels: a temperature makes them probabilities, a threshold decides."""

import torch
from torch import Tensor

from lightning_modules.rule import DecisionRule


class ClassificationRule(DecisionRule):
    """The rule (threshold, temperature, kept) of each class.

    `kept` is 0 where the search could not keep the bounds that it was given.

    Args:
        classes: Number of classes.
        exclusive: Exactly one class holds: the most probable one, whatever the thresholds.
    """

    def __init__(self, classes: int, exclusive: bool = False) -> None:
        super().__init__((0.5, 1.0, 1.0), classes)
        self.exclusive = exclusive

    def probability(self, logits: Tensor) -> Tensor:
        """Logits `B x C` to float probabilities of the same shape."""
        scaled = logits.float() / self.numbers[:, 1].to(logits.device, torch.float32)
        return scaled.softmax(1) if self.exclusive else scaled.sigmoid()

    def forward(self, logits: Tensor) -> Tensor:
        """Logits `B x C` to bools of the same shape."""
        probability = self.probability(logits)
        if self.exclusive:
            return torch.arange(probability.shape[1], device=logits.device) == probability.argmax(
                1, keepdim=True
            )
        return probability >= self.numbers[:, 0].to(logits.device)

    def as_dict(self) -> list[dict[str, float]]:
        """Return threshold and temperature of each class by name; no threshold if exclusive."""
        return [
            ({} if self.exclusive else {"threshold": number[0]}) | {"temperature": number[1]}
            for number in self.numbers.tolist()
        ]
