"""Losses: every one returns one fp32 value per image, shape `B`.

A loss of masks takes as its third argument `ignored`, `B x 1 x H x W`: pixels at which it is 1
enter neither the value nor a mean, and have a gradient of 0.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.arguments import Fraction, NonNegativeFloat, PositiveFloat, validated
from datamodules.errors import UserError
from evaluation.exclusive_classes import log_probabilities, to_class_map, to_planes
from lightning_modules.library_imports import smp


def apply_loss(
    loss: nn.Module, logits: Tensor, target: Tensor, ignored: Tensor | None = None
) -> Tensor:
    """Return the loss `B`, without the ignored pixels if there are some.

    Args:
        loss: A loss of this file, or one of the user's.
        logits: As the loss takes them.
        target: In the same form.
        ignored: `B x 1 x H x W`, 1 where a pixel does not count; None if all count.

    Raises:
        UserError: Some pixels are ignored, and the loss cannot leave them out.
    """
    if ignored is None:
        return loss(logits, target)
    if "ignored" in inspect.signature(loss.forward).parameters:
        return loss(logits, target, ignored)
    if bool(ignored.any()):
        name = type(loss).__name__
        raise UserError(
            f"module.loss: {name} takes no argument ignored, but some pixels of this data are to be"
            " ignored; write forward(self, logits, target, ignored=None) and leave out the pixels"
            " at which ignored is 1, or take a loss of conf/module/loss"
        )
    return loss(logits, target)


def _mean_over_pixels(values: Tensor, ignored: Tensor | None) -> Tensor:
    """Average `B x C` or `B x C x H x W` over classes and the pixels that count: `B`, 0 for none.

    The ignored pixels have a gradient of 0.
    """
    if ignored is None:
        return values.flatten(1).mean(1)
    left_out = ignored.to(values.device) != 0
    kept = (~left_out).flatten(1).sum(1) * values.shape[1]
    return values.masked_fill(left_out, 0).flatten(1).sum(1) / kept.clamp(min=1)


def _blank(planes: Tensor, ignored: Tensor | None) -> Tensor:
    """Set the ignored pixels of `B x C x H x W` to 0, and their gradients too."""
    return planes if ignored is None else planes.masked_fill(ignored.to(planes.device) != 0, 0)


@validated
class WeightedLoss(nn.Module):
    """Weighted sum of losses per image: `sum of weights[name] * terms[name]`.

    Args:
        terms: Losses that give one value per image, by name.
        weights: Weights by the same names.

    Raises:
        UserError: Terms and weights differ in their names, or some terms are for exclusive classes
            and others are not.
    """

    def __init__(
        self, terms: Mapping[str, nn.Module], weights: Mapping[str, NonNegativeFloat]
    ) -> None:
        super().__init__()
        self.terms = nn.ModuleDict(dict(terms))
        self.set_weights(weights)
        exclusive = [name for name, term in terms.items() if getattr(term, "exclusive", False)]
        if exclusive and len(exclusive) < len(terms):
            others = ", ".join(name for name in terms if name not in exclusive)
            raise UserError(
                f"the loss {', '.join(exclusive)} is for exclusive classes and {others} is not;"
                " take terms of one kind, or module/loss=dice_cross_entropy"
            )
        self.exclusive = bool(exclusive)

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Set other weights, from the next batch on.

        Args:
            weights: One weight for each term, by its name.

        Raises:
            UserError: A name is not that of a term, or a term has no weight.
        """
        unknown, missing = (
            sorted(set(weights) - set(self.terms)),
            sorted(set(self.terms) - set(weights)),
        )
        if unknown or missing:
            wrong = [f"{name} is not a term of this loss" for name in unknown] + [
                f"the term {name} has no weight" for name in missing
            ]
            raise UserError(
                f"loss weights {dict(weights)}: {', '.join(wrong)}; set one weight for each of"
                f" {', '.join(self.terms)}"
            )
        self.weights = dict(weights)

    def forward(self, logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Return the loss `B` from logits and 0/1 target `B x C x H x W`."""
        logits, target = logits.float(), target.to(logits.device, torch.float32)
        return torch.stack(
            [
                self.weights[name] * apply_loss(term, logits, target, ignored)
                for name, term in self.terms.items()
            ]
        ).sum(0)


@validated
class FocalLoss(nn.Module):
    """Focal loss (Lin et al. 2017) for masks or labels: `-alpha_t (1 - p_t)^gamma log p_t`.

    It is the mean over pixels and classes.

    Args:
        gamma: Exponent that lowers the weight of easy pixels or images; 0 is cross-entropy.
        alpha: Weight of positives; negatives have the weight 1 - alpha. None gives both the weight
            1.
    """

    def __init__(self, gamma: NonNegativeFloat = 2.0, alpha: Fraction | None = None) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Return the loss `B` from logits and target `B x C` or `B x C x H x W`."""
        logits, target = logits.float(), target.float()
        cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        loss = (1 - torch.exp(-cross_entropy)) ** self.gamma * cross_entropy
        if self.alpha is not None:
            loss = loss * (self.alpha * target + (1 - self.alpha) * (1 - target))
        return _mean_over_pixels(loss, ignored)


@validated
class MulticlassFocalLoss(nn.Module):
    """Focal loss for exclusive classes: `-alpha_t (1 - p_t)^gamma log p_t`.

    p_t is the softmax probability of the true class.

    Args:
        gamma: As in `FocalLoss`.
        alpha: alpha_t of each class; None for 1.
    """

    def __init__(
        self, gamma: NonNegativeFloat = 2.0, alpha: Sequence[NonNegativeFloat] | None = None
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = None if alpha is None else list(alpha)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss `B` from logits and one-hot target `B x C`."""
        target = target.float()
        log_p = (logits.float().log_softmax(1) * target).sum(1)
        loss = -((1 - log_p.exp()) ** self.gamma) * log_p
        return (
            loss if self.alpha is None else loss * (target * target.new_tensor(self.alpha)).sum(1)
        )  # autocast would round a product with @


@validated
class CrossEntropyLoss(nn.Module):
    """Cross-entropy of labels: softmax over exclusive classes, else the mean over sigmoids.

    Args:
        exclusive: True if exactly one class holds in each image.
    """

    def __init__(self, exclusive: bool = False) -> None:
        super().__init__()
        self.exclusive = exclusive

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss `B` from logits and 0/1 target `B x C`."""
        logits, target = logits.float(), target.float()
        if self.exclusive:
            return -(logits.log_softmax(1) * target).sum(1)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)


ClassWeightPair = Annotated[
    Sequence[NonNegativeFloat], Field(min_length=2, max_length=2)
]  # of pixels outside and inside


@validated
class BCELoss(nn.Module):
    """Binary cross-entropy for masks or labels, averaged over pixels and classes.

    Args:
        pos_weight: Weight of positives; negatives have the weight 1. None gives both the weight 1.
            `train` uses negatives / positives of each class in train, counted in images or pixels;
            the module calls `balance` before training, and until then all weights are 1.
    """

    def __init__(self, pos_weight: PositiveFloat | Literal["train"] | None = None) -> None:
        super().__init__()
        self.weight_from_train = pos_weight == "train"
        self.pos_weight = (
            None
            if pos_weight is None or self.weight_from_train
            else torch.tensor(float(pos_weight))
        )  # not a buffer, as in ClassBalancedBCELoss

    def balance(self, counts: np.ndarray) -> None:
        """Set the weight from the training data if `pos_weight` is `train`.

        Args:
            counts: Numbers of images or pixels without and with each class, `classes x 2`; a class
                without any keeps 1.
        """
        if self.weight_from_train:
            known = (counts > 0).all(1)
            self.pos_weight = torch.tensor(
                np.where(known, counts[:, 0] / np.maximum(1, counts[:, 1]), 1.0),
                dtype=torch.float32,
            )

    def forward(self, logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Return the loss `B` from logits and target `B x C` or `B x C x H x W`."""
        weight = (
            None
            if self.pos_weight is None
            else self.pos_weight.to(logits.device).view(-1, *[1] * (logits.ndim - 2))
        )
        loss = F.binary_cross_entropy_with_logits(
            logits.float(), target.float(), reduction="none", pos_weight=weight
        )
        return _mean_over_pixels(loss, ignored)


@validated
class ClassBalancedBCELoss(nn.Module):
    """Cross-entropy that weights each class and its background by `total / (2 n)` in train.

    n is the number of pixels; the loss is averaged over pixels and classes. For one class it is the
    softmax cross-entropy of two classes with these weights, up to their sum. The module calls
    `balance` before training; until then all weights are 1.

    Args:
        weights: `[[weight of pixels outside, weight of pixels inside], ...]` for each class; None
            takes them from train.
    """

    def __init__(self, weights: Sequence[ClassWeightPair] | None = None) -> None:
        super().__init__()
        self.weights_given = weights is not None
        self.weights = torch.tensor(
            weights or [[1.0, 1.0]], dtype=torch.float32
        )  # not a buffer, because weight averaging averages buffers too

    def balance(self, pixels: np.ndarray) -> None:
        """Set the weights from the pixels of train.

        Args:
            pixels: Numbers of pixels outside and inside each class's masks, `classes x 2`; a class
                without any keeps 1.
        """
        if not self.weights_given:
            balanced = pixels.sum(1, keepdims=True) / (2.0 * np.maximum(pixels, 1))
            known = (pixels > 0).all(1, keepdims=True)
            self.weights = torch.tensor(np.where(known, balanced, 1.0), dtype=torch.float32)

    def forward(self, logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Return the loss `B` from logits and target `B x C x H x W`."""
        logits, target = logits.float(), target.float()
        self.weights = self.weights.to(logits.device)
        outside, inside = self.weights.view(1, -1, 2, 1, 1).unbind(2)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return _mean_over_pixels(loss * (outside + (inside - outside) * target), ignored)


# Dice and Tversky are not smp's, which give one value per batch and always leave out images without
# a lesion.


def _soft_dice_loss(
    probability: Tensor, target: Tensor, smooth: float, lesions_only: bool
) -> Tensor:
    """Return 1 - soft Dice of each class of `B x C x H x W`, averaged over classes: `B`."""
    probability, target = probability.flatten(2), target.flatten(2)
    overlap = (probability * target).sum(2)
    loss = 1 - (2 * overlap + smooth) / (probability.sum(2) + target.sum(2) + smooth)
    return (loss * (target.sum(2) > 0) if lesions_only else loss).mean(1)


@validated
class DiceLoss(nn.Module):
    """Soft Dice loss (Milletari et al. 2016) per image and class, mean over classes.

    Args:
        smooth: Pixels added to numerator and denominator; keeps a gradient on images without a
            lesion.
        lesions_only: True to leave out images without the class, as smp does. If there are many
            such images, the loss otherwise favors empty predictions for a long time.
    """

    def __init__(self, smooth: NonNegativeFloat = 1.0, lesions_only: bool = False) -> None:
        super().__init__()
        self.smooth, self.lesions_only = smooth, lesions_only

    def forward(self, logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Return the loss `B` from logits and target `B x C x H x W`."""
        return _soft_dice_loss(
            _blank(logits.float().sigmoid(), ignored),
            _blank(target.float(), ignored),
            self.smooth,
            self.lesions_only,
        )


@validated
class DiceCrossEntropyLoss(nn.Module):
    """Weighted sum of Dice loss and cross-entropy, for overlapping or for exclusive classes.

    For exclusive classes the probabilities are a softmax over the background, whose logit is 0, and
    the classes; the cross-entropy is the mean over pixels, and the Dice loss that of each class
    without the background, averaged over classes (as nnU-Net, Isensee et al. 2021). Otherwise it is
    the sum of `DiceLoss` and `BCELoss`.

    Args:
        exclusive: True if each pixel has one class or is background. Where several planes of the
            target are 1 at a pixel, the first one wins.
        dice: Weight of the Dice loss.
        cross_entropy: Weight of the cross-entropy.
        smooth: As in `DiceLoss`.
        lesions_only: As in `DiceLoss`, for the Dice loss alone.
    """

    def __init__(
        self,
        exclusive: bool,
        dice: NonNegativeFloat = 0.5,
        cross_entropy: NonNegativeFloat = 0.5,
        smooth: NonNegativeFloat = 1.0,
        lesions_only: bool = False,
    ) -> None:
        super().__init__()
        self.exclusive = exclusive
        self.dice, self.cross_entropy = dice, cross_entropy
        self.smooth, self.lesions_only = smooth, lesions_only

    def forward(self, logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Return the loss `B` from logits and target `B x C x H x W`."""
        logits = logits.float()
        if self.exclusive:
            target = to_planes(to_class_map(target.to(logits.device)), logits.shape[1]).float()
            log_p = log_probabilities(logits)
            # not F.cross_entropy, which trainer.deterministic=true refuses on a GPU
            true = torch.cat([1 - target.sum(1, keepdim=True), target], 1)
            pixels = -(log_p * true).sum(1, keepdim=True)
            probability = log_p[:, 1:].exp()
        else:
            target = target.to(logits.device, torch.float32)
            pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            probability = logits.sigmoid()
        overlap = _soft_dice_loss(
            _blank(probability, ignored), _blank(target, ignored), self.smooth, self.lesions_only
        )
        return self.dice * overlap + self.cross_entropy * _mean_over_pixels(pixels, ignored)


@validated
class TverskyLoss(nn.Module):
    """Tversky loss (Salehi et al. 2017) per image and class: `1 - TP / (TP + alpha FP + beta FN)`.

    It is the mean over classes. With alpha = beta = .5 and half of its smooth it is `DiceLoss`.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        smooth: As in `DiceLoss`.
        lesions_only: As in `DiceLoss`.
    """

    def __init__(
        self,
        alpha: NonNegativeFloat = 0.3,
        beta: NonNegativeFloat = 0.7,
        smooth: NonNegativeFloat = 1.0,
        lesions_only: bool = False,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.smooth, self.lesions_only = alpha, beta, smooth, lesions_only

    def forward(self, logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Return the loss `B` from logits and target `B x C x H x W`."""
        probability = _blank(logits.float().sigmoid(), ignored).flatten(2)
        target = _blank(target.float(), ignored).flatten(2)
        hit = (probability * target).sum(2)
        wrong = self.alpha * (probability.sum(2) - hit) + self.beta * (target.sum(2) - hit)
        loss = 1 - (hit + self.smooth) / (hit + wrong + self.smooth)
        return (loss * (target.sum(2) > 0) if self.lesions_only else loss).mean(1)


class LovaszHingeLoss(nn.Module):
    """Binary Lovasz hinge (Berman et al. 2018, smp's code) per image and class, mean over classes.

    It is an upper bound of the Jaccard loss. On an image without a lesion it is the hinge of the
    worst pixel only, so it should be combined with a pixelwise loss.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hinge = smp.losses.LovaszLoss("binary")

    def forward(self, logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Return the loss `B` from logits and target `B x C x H x W`."""
        planes = [logits.float().flatten(0, 1), target.float().flatten(0, 1)]
        pairs = zip(*planes, strict=True)
        if ignored is not None:
            kept = (ignored.to(logits.device) == 0).expand_as(logits).flatten(0, 1)
            counting = ([p[k] for p, k in zip(each, kept, strict=True)] for each in planes)
            pairs = zip(*counting, strict=True)
        return (
            torch.stack([self.hinge(one, true) for one, true in pairs])
            .view(logits.shape[:2])
            .mean(1)
        )
