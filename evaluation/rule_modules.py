"""Decision rules as torch modules: their numbers lie in a checkpoint, and the device decides.

`evaluation/decision_rule.py` decides the same from arrays, bit for bit.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from evaluation.decision_rule import ARGMAX_RULE
from evaluation.exclusive_classes import predict_class_map, quantize_margins, to_planes
from evaluation.logit_bins import HALF_BIN, bin_probability, quantize_logits


class DecisionRule(nn.Module):
    """Base class of the decision rules for masks and labels.

    The numbers are saved as extra state rather than as buffers, because weight averaging swaps and
    averages every buffer.

    Args:
        initial_values: The three numbers before any search.
        classes: Number of classes.
    """

    def __init__(self, initial_values: tuple[float, float, float], classes: int) -> None:
        super().__init__()
        self.values = torch.tensor([initial_values] * classes, dtype=torch.float64)  # classes x 3
        self.initial_values = self.values.clone()

    def get_extra_state(self) -> Tensor:
        """Return the numbers for a checkpoint, float64 `classes x 3`."""
        return self.values

    def set_extra_state(self, state: Any) -> None:
        """Set the numbers from a checkpoint.

        Raises:
            UserError: They are no finite numbers, three for each class.
        """
        usable = isinstance(state, Tensor) and state.shape == self.values.shape
        if not usable or not bool(torch.isfinite(state).all()):
            found = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
            raise UserError(
                "the decision rule of the checkpoint (rule._extra_state) is no tensor of"
                f" {tuple(self.values.shape)} finite numbers but {found}; name another .ckpt"
            )
        self.values = state.to(torch.float64).cpu()

    @abstractmethod
    def as_dict(self) -> list[dict[str, float]]:
        """Return the rule of each class as name -> value."""


class SegmentationRule(DecisionRule):
    """Decision rule of the SIIM-ACR winners for each class: (top, min_area, bottom).

    An image shows the class if at least `min_area` of its pixels have a byte >= top; then the mask
    is where the byte is >= bottom, else it is empty. With top = bottom and min_area = 0 this is a
    plain threshold.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__((HALF_BIN, 0.0, HALF_BIN), classes)

    def to_bytes(self, logits: Tensor) -> Tensor:
        """Convert logits `B x C x H x W` to the bytes that evidence counts."""
        return quantize_logits(logits)

    def forward(self, logits: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Convert logits `B x C x H x W` to bools of the same shape; H x W is the whole image.

        Pixels at which `ignored` (`B x 1 x H x W`) is 1 are in no mask and in no fraction.
        """
        byte = self.to_bytes(logits)
        top, min_area, bottom = (
            column.view(1, -1, 1, 1).to(byte.device) for column in self.values.unbind(1)
        )
        certain = byte >= top
        if ignored is None:
            share = certain.double().mean((2, 3), keepdim=True)
            return (byte >= bottom) & (share >= min_area)
        kept = ignored == 0
        pixels = kept.double().sum((2, 3), keepdim=True).clamp(min=1)
        share = (certain & kept).double().sum((2, 3), keepdim=True) / pixels
        return (byte >= bottom) & (share >= min_area) & kept

    def as_dict(self) -> list[dict[str, float]]:
        """Return the rule of each class by name, with probabilities in place of bytes."""
        return [
            {
                "top": float(bin_probability(top)),
                "min_area": area,
                "bottom": float(bin_probability(bottom)),
            }
            for top, area, bottom in self.values.tolist()
        ]


class ExclusiveSegmentationRule(DecisionRule):
    """Decision rule of masks of exclusive classes: the most probable class of each pixel.

    Its numbers are the threshold `HALF_BIN` of the margins that evidence keeps; they never change.

    Args:
        classes: Number of classes, without the background.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(ARGMAX_RULE, classes)

    def to_bytes(self, logits: Tensor) -> Tensor:
        """Convert logits `B x C x H x W` to the bytes that evidence counts, those of margins."""
        return quantize_margins(logits)

    def forward(self, logits: Tensor, ignored: Tensor | None = None) -> Tensor:
        """Convert logits `B x C x H x W` to bools of the same shape, at most one true per pixel.

        Pixels at which `ignored` (`B x 1 x H x W`) is 1 are in no mask.
        """
        masks = to_planes(predict_class_map(logits), logits.shape[1])
        return masks if ignored is None else masks & (ignored == 0)

    def set_extra_state(self, state: Any) -> None:
        """Keep the argmax, whatever rule a checkpoint holds."""

    def as_dict(self) -> list[dict[str, float]]:
        """Return no numbers for any class."""
        return [{} for _ in self.values]


class ClassificationRule(DecisionRule):
    """Decision rule (threshold, temperature, kept) of each class.

    `kept` is 0 if the search could not satisfy the bounds that it was given.

    Args:
        classes: Number of classes.
        exclusive: True if exactly one class holds; it is then the most probable one, and thresholds
            are not used.
    """

    def __init__(self, classes: int, exclusive: bool = False) -> None:
        super().__init__((0.5, 1.0, 1.0), classes)
        self.exclusive = exclusive

    def probability(self, logits: Tensor) -> Tensor:
        """Convert logits `B x C` to float probabilities of the same shape."""
        scaled = logits.float() / self.values[:, 1].to(logits.device, torch.float32)
        return scaled.softmax(1) if self.exclusive else scaled.sigmoid()

    def forward(self, logits: Tensor) -> Tensor:
        """Convert logits `B x C` to bools of the same shape."""
        probability = self.probability(logits)
        if self.exclusive:
            return torch.arange(probability.shape[1], device=logits.device) == probability.argmax(
                1, keepdim=True
            )
        return probability >= self.values[:, 0].to(logits.device)

    def as_dict(self) -> list[dict[str, float]]:
        """Return threshold and temperature of each class by name; no threshold if exclusive."""
        return [
            ({} if self.exclusive else {"threshold": number[0]}) | {"temperature": number[1]}
            for number in self.values.tolist()
        ]
