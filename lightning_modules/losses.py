"""Losses of shape (B,), in fp32, so that samples can be weighed and averaged over ranks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.arguments import Fraction, NonNegative, validated
from datamodules.refusal import UserError


@validated
class WeightedLoss(nn.Module):
    """`sum of weights[name] * terms[name]` per image.

    Args:
        terms: Losses that give one value an image.
        weights: Their weights, by the same names.

    Raises:
        Refusal: terms and weights have other names.
    """

    def __init__(self, terms: Mapping[str, nn.Module], weights: Mapping[str, NonNegative]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.set_weights(weights)

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Put other weights in force, from the next batch on.

        Args:
            weights: One for each term, by its name.

        Raises:
            Refusal: a name is no term's, or a term has no weight.
        """
        unknown, missing = (
            sorted(set(weights) - set(self.terms)),
            sorted(set(self.terms) - set(weights)),
        )
        if unknown or missing:
            wrong = [f"{name} is no term of this loss" for name in unknown] + [
                f"the term {name} has no weight" for name in missing
            ]
            raise UserError(
                f"loss weights {dict(weights)}: {', '.join(wrong)}; give a weight to each of"
                f" {', '.join(self.terms)}, and to no other"
            )
        self.weights = dict(weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and 0/1 target `B x C x H x W` to `B`."""
        logits, target = logits.float(), target.to(logits.device, torch.float32)
        return torch.stack(
            [self.weights[name] * term(logits, target) for name, term in self.terms.items()]
        ).sum(0)


@validated
class FocalLoss(nn.Module):
    """Focal loss (Lin et al. 2017) of masks or labels: `-alpha_t (1 - p_t)^gamma log p_t`.

    It is the mean over pixels and classes.

    Args:
        gamma: How much what is easy is discounted; 0 is cross-entropy.
        alpha: alpha_t, the weight of positives, and 1 - alpha of negatives; None weighs both 1.
    """

    def __init__(self, gamma: NonNegative = 2.0, alpha: Fraction | None = None) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `B x C` or `B x C x H x W` to `B`."""
        logits, target = logits.float(), target.float()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = (1 - torch.exp(-cross_entropy)) ** self.gamma * cross_entropy
        if self.alpha is not None:
            loss = loss * (self.alpha * target + (1 - self.alpha) * (1 - target))
        return loss.flatten(1).mean(1)


@validated
class MulticlassFocalLoss(nn.Module):
    """Focal loss of exclusive classes: `-alpha_t (1 - p_t)^gamma log p_t`.

    p_t is the softmax probability of the true class.

    Args:
        gamma: As `FocalLoss`.
        alpha: alpha_t of each class; None weighs all 1.
    """

    def __init__(
        self, gamma: NonNegative = 2.0, alpha: Sequence[NonNegative] | None = None
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = None if alpha is None else list(alpha)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and one-hot target `B x C` to `B`."""
        target = target.float()
        log_p = (logits.float().log_softmax(1) * target).sum(1)
        loss = -((1 - log_p.exp()) ** self.gamma) * log_p
        return (
            loss if self.alpha is None else loss * (target * target.new_tensor(self.alpha)).sum(1)
        )  # autocast would round a product with @
