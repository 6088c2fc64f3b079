"""Cross-entropies of masks and labels whose weights may come from the training data."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.arguments import NonNegative, Positive, validated

ClassWeightPair = Annotated[
    Sequence[NonNegative], Field(min_length=2, max_length=2)
]  # of pixels outside and inside


@validated
class BCELoss(nn.Module):
    """Binary cross-entropy of masks or labels, mean over pixels and classes.

    Args:
        pos_weight: Weight of positives, where negatives weigh 1; None weighs both 1. `train` takes
            negatives / positives of each class in train, of images or of pixels: the module calls
            `balance` before training starts, and until then all weigh 1.
    """

    def __init__(self, pos_weight: Positive | Literal["train"] | None = None) -> None:
        super().__init__()
        self.balanced = pos_weight == "train"
        self.pos_weight = (
            None if pos_weight is None or self.balanced else torch.tensor(float(pos_weight))
        )  # no buffer, as in BalancedBce

    def balance(self, counts: np.ndarray) -> None:
        """Take the weight from the training data, where that was asked for.

        Args:
            counts: `classes x 2`, how many images or pixels are not, and are, of each class; where
                there are none the class keeps 1.
        """
        if self.balanced:
            known = (counts > 0).all(1)
            self.pos_weight = torch.tensor(
                np.where(known, counts[:, 0] / np.maximum(1, counts[:, 1]), 1.0),
                dtype=torch.float32,
            )

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `B x C` or `B x C x H x W` to `B`."""
        weight = (
            None
            if self.pos_weight is None
            else self.pos_weight.to(logits.device).view(-1, *[1] * (logits.ndim - 2))
        )
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), target.float(), reduction="none", pos_weight=weight
        )
        return loss.flatten(1).mean(1)


@validated
class ClassBalancedBCELoss(nn.Module):
    """Cross-entropy that weighs classes and backgrounds by rarity in train: `total / (2 n)`.

    n counts pixels; the loss is the mean over pixels and classes. For one class it is the
    softmax cross-entropy of two classes with these weights, up to their sum. The module calls
    `balance` before training starts; until then all weigh 1.

    Args:
        weights: `[[of pixels outside, of pixels inside], ...]` for each class; None takes them from
            train.
    """

    def __init__(self, weights: Sequence[ClassWeightPair] | None = None) -> None:
        super().__init__()
        self.asked = weights is not None
        self.weights = torch.tensor(
            weights or [[1.0, 1.0]], dtype=torch.float32
        )  # no buffer: averages of a network's weights average those too

    def balance(self, pixels: np.ndarray) -> None:
        """Take the weights from the pixels of train.

        Args:
            pixels: `classes x 2`, how many lie outside and inside each class's masks; where there
                are none the class keeps 1.
        """
        if not self.asked:
            balanced = pixels.sum(1, keepdims=True) / (2.0 * np.maximum(pixels, 1))
            known = (pixels > 0).all(1, keepdims=True)
            self.weights = torch.tensor(np.where(known, balanced, 1.0), dtype=torch.float32)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `B x C x H x W` to `B`."""
        logits, target = logits.float(), target.float()
        self.weights = self.weights.to(logits.device)
        outside, inside = self.weights.view(1, -1, 2, 1, 1).unbind(2)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (loss * (outside + (inside - outside) * target)).flatten(1).mean(1)
