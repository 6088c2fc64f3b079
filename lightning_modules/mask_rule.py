"""Probabilities become a mask: where enough of the image is above `top`, the mask is drawn at `bottom`."""

from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.logit_byte import HALF, probability_of, to_byte


class MaskRule(nn.Module):
    """The decision rule of the SIIM-ACR winners, per class: (top, min_area, bottom).

    An image shows the class if at least `min_area` of its pixels have a byte >= top; then the mask is where the byte is >=
    bottom, else it is empty. With top = bottom and min_area = 0 this is a plain threshold. The numbers are saved with the
    weights, as extra state rather than as buffers: weight averaging swaps and averages every buffer it finds.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.numbers = torch.tensor([[HALF, 0.0, HALF]] * classes, dtype=torch.float64)  # classes x (top, min_area, bottom)

    def forward(self, logits: Tensor) -> Tensor:
        """Logits `B x C x H x W` to a mask of bools of the same shape; the image is the whole of H x W."""
        byte = to_byte(logits)
        top, min_area, bottom = (column.view(1, -1, 1, 1).to(byte.device) for column in self.numbers.unbind(1))
        share = (byte >= top).double().mean((2, 3), keepdim=True)
        return (byte >= bottom) & (share >= min_area)

    def get_extra_state(self) -> Tensor:
        """What a checkpoint keeps: `classes x 3` doubles."""
        return self.numbers

    def set_extra_state(self, state: Any) -> None:
        """Takes the numbers of a checkpoint."""
        self.numbers = state.to(torch.float64).cpu()

    def in_words(self) -> list[dict[str, float]]:
        """Per class, with probabilities in place of bytes."""
        return [
            {"top": float(probability_of(top)), "min_area": area, "bottom": float(probability_of(bottom))}
            for top, area, bottom in self.numbers.tolist()
        ]
