"""uint8 images become floats around zero; the numbers are saved with the weights."""

import torch
from torch import Tensor, nn

from datamodules.refusal import Refusal


class Normalize(nn.Module):
    """`((image / 255) ** gamma - mean) / std` per channel, on the device.

    Args:
        mean: Per channel, of pixels scaled to 0..1 and raised to gamma.
        std: Likewise.
        gamma: 0.5, the square root, makes counting noise alike in bright and dark parts of a scintigram (Anscombe 1948); 1 changes nothing.

    Raises:
        Refusal: gamma is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float], gamma: float = 1.0) -> None:
        super().__init__()
        if not gamma > 0:
            raise Refusal(f"module.gamma={gamma} is no exponent of grey values; take a number above 0, 1 for none")
        self.gamma = float(gamma)
        if self.gamma != 1:  # a checkpoint of another gamma does not fit then
            self.register_buffer("exponent", torch.tensor(self.gamma))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """uint8 `B x C x H x W` to float of the same shape."""
        if self.gamma == 1:
            return image.float().mul_(1 / (255 * self.std)).sub_(self.mean / self.std)
        return image.float().div_(255).pow_(self.gamma).sub_(self.mean).div_(self.std)
