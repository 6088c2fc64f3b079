"""Losses of the overlap of two masks: one value per image, in fp32."""

import torch
from torch import Tensor, nn

from datamodules.arguments import NonNegative, validated
from lightning_modules.architectures import smp

# Dice and Tversky are not smp's: those give one value a batch, and always leave out images without
# lesion.


@validated
class DiceLoss(nn.Module):
    """Soft Dice loss (Milletari et al. 2016) per image and class, mean over classes.

    Args:
        smooth: Added to both sides of the fraction, in pixels; keeps a gradient on images without
            lesion.
        lesions_only: Leave out images without the class, as smp does. Where such images are many,
            the loss is otherwise lowest, at least for a long time, for an empty prediction.
    """

    def __init__(self, smooth: NonNegative = 1.0, lesions_only: bool = False) -> None:
        super().__init__()
        self.smooth, self.lesions_only = smooth, lesions_only

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `B x C x H x W` to `B`."""
        probability, target = logits.float().sigmoid().flatten(2), target.float().flatten(2)
        overlap = (probability * target).sum(2)
        loss = 1 - (2 * overlap + self.smooth) / (probability.sum(2) + target.sum(2) + self.smooth)
        return (loss * (target.sum(2) > 0) if self.lesions_only else loss).mean(1)


@validated
class TverskyLoss(nn.Module):
    """Tversky loss (Salehi et al. 2017) per image and class: `1 - TP / (TP + alpha FP + beta FN)`.

    It is the mean over classes. With alpha = beta = .5 and half of its smooth it is `Dice`.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        smooth: As of `Dice`.
        lesions_only: As of `Dice`.
    """

    def __init__(
        self,
        alpha: NonNegative = 0.3,
        beta: NonNegative = 0.7,
        smooth: NonNegative = 1.0,
        lesions_only: bool = False,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.smooth, self.lesions_only = alpha, beta, smooth, lesions_only

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `B x C x H x W` to `B`."""
        probability, target = logits.float().sigmoid().flatten(2), target.float().flatten(2)
        hit = (probability * target).sum(2)
        wrong = self.alpha * (probability.sum(2) - hit) + self.beta * (target.sum(2) - hit)
        loss = 1 - (hit + self.smooth) / (hit + wrong + self.smooth)
        return (loss * (target.sum(2) > 0) if self.lesions_only else loss).mean(1)


class LovaszHingeLoss(nn.Module):
    """Binary Lovasz hinge (Berman et al. 2018, smp's code) per image and class, mean over classes.

    It bounds the Jaccard loss from above. On an image without lesion it is the hinge of the worst
    pixel alone, so it wants a pixelwise loss beside it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hinge = smp.losses.LovaszLoss("binary")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `B x C x H x W` to `B`."""
        pairs = zip(logits.float().flatten(0, 1), target.float().flatten(0, 1), strict=True)
        return (
            torch.stack([self.hinge(one, true) for one, true in pairs])
            .view(logits.shape[:2])
            .mean(1)
        )
