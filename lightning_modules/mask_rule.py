"""Decision rule for masks: if enough of the image is above `top`, the mask is cut at `bottom`."""

from torch import Tensor

from lightning_modules.logit_byte import HALF, bin_probability, quantize
from lightning_modules.rule import DecisionRule


class SegmentationRule(DecisionRule):
    """The decision rule of the SIIM-ACR winners, per class: (top, min_area, bottom).

    An image shows the class if at least `min_area` of its pixels have a byte >= top; then the mask
    is where the byte is >= bottom, else it is empty. With top = bottom and min_area = 0 this is a
    plain threshold.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__((HALF, 0.0, HALF), classes)

    def forward(self, logits: Tensor) -> Tensor:
        """Turn logits `B x C x H x W` into bools of the same shape; H x W is the whole image."""
        byte = quantize(logits)
        top, min_area, bottom = (
            column.view(1, -1, 1, 1).to(byte.device) for column in self.numbers.unbind(1)
        )
        share = (byte >= top).double().mean((2, 3), keepdim=True)
        return (byte >= bottom) & (share >= min_area)

    def as_dict(self) -> list[dict[str, float]]:
        """Return the rule of each class by name, with probabilities in place of bytes."""
        return [
            {
                "top": float(bin_probability(top)),
                "min_area": area,
                "bottom": float(bin_probability(bottom)),
            }
            for top, area, bottom in self.numbers.tolist()
        ]
