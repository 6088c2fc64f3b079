"""uint8 images become floats around zero; the numbers are saved with the weights."""

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """`(image / 255 - mean) / std` per channel, on the device, as one multiplication and one addition.

    Args:
        mean: Per channel, of pixels scaled to 0..1.
        std: Likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """uint8 `B x C x H x W` to float of the same shape."""
        return image.float().mul_(1 / (255 * self.std)).sub_(self.mean / self.std)
