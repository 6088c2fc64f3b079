"""Normalization of uint8 images to floats around zero; its numbers are saved with the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from lightning_modules.module_config import ScratchNormalization

AUTO = "auto"
SOURCE_USER = "module.mean and module.std"
SOURCE_SCRATCH = "module.scratch_normalization"
SOURCE_CHECKPOINT = "stored in the checkpoint"


@dataclass(frozen=True)
class PixelStatistics:
    """Mean and std that pretrained weights expect, per input channel, for pixels scaled to 0..1.

    The function that builds a network attaches them as `net.statistics`; without this attribute, or
    with None, they are unknown.

    Attributes:
        mean: One number per input channel.
        std: Standard deviation in the same form.
        source: Weights that state them.
        problem: Reason why they cannot be used for this input; `mean: auto` is then refused with
            this reason.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    problem: str = ""

    @classmethod
    def unusable(cls, source: str, problem: str) -> "PixelStatistics":
        """Make statistics of weights whose configuration cannot be read or cannot be applied."""
        return cls((), (), source, problem)

    @classmethod
    def from_weights(
        cls,
        mean: Sequence[float],
        std: Sequence[float],
        source: str,
        in_channels: int,
        input_range: Sequence[float] = (0, 1),
        input_space: str = "RGB",
    ) -> "PixelStatistics":
        """Convert the numbers of a library's configuration to this network's input.

        For a gray input, mean and std are averaged over the channels, because pretrained weights of
        three channels are summed for it.

        Args:
            mean: Mean per channel of the weights, in units of `input_range`.
            std: Standard deviation in the same form.
            source: Weights that state them.
            in_channels: Channels of the network's input.
            input_range: Darkest and brightest pixel that the weights expect before normalization:
                0..1 or 0..255.
            input_space: Order of the channels that the weights expect.
        """
        low, high = (float(value) for value in input_range)
        if low != 0 or high not in (1, 255):
            return cls.unusable(
                source,
                f"the {source} expect pixels in {low:g}..{high:g}, and only 0..1 and 0..255 can be"
                " converted",
            )
        if in_channels == 1:
            note = ", mean over channels" if len(mean) > 1 else ""
            return cls((fmean(mean) / high,), (fmean(std) / high,), source + note)
        if in_channels != len(mean):
            return cls.unusable(
                source,
                f"the {source} have {len(mean)} channels, but module.net has"
                f" in_channels={in_channels}",
            )
        if input_space != "RGB":
            return cls.unusable(
                source, f"the {source} expect {input_space} channels, and images are RGB"
            )
        return cls(
            tuple(value / high for value in mean), tuple(value / high for value in std), source
        )


class Normalize(nn.Module):
    """Normalization on the device: `((image / 255) ** gamma - mean) / std` per channel.

    Args:
        mean: Mean per channel, for pixels scaled to 0..1 and raised to gamma.
        std: Standard deviation in the same form.
        gamma: Exponent of the pixels; 0.5 (the square root) makes counting noise equal in bright
            and dark parts of a scintigram (Anscombe 1948); 1 changes nothing.
        source: Source of the numbers.

    Attributes:
        explicit: True if the user gave the numbers; a checkpoint with other numbers is then
            refused.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        gamma: float = 1.0,
        source: str = SOURCE_USER,
    ) -> None:
        super().__init__()
        self.gamma = float(gamma)
        self.source = source
        self.explicit = source == SOURCE_USER
        if self.gamma != 1:  # so that a checkpoint of another gamma does not fit
            self.register_buffer("exponent", torch.tensor(self.gamma))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Convert uint8 `B x C x H x W` to float of the same shape."""
        if self.gamma == 1:
            return image.float().mul_(1 / (255 * self.std)).sub_(self.mean / self.std)
        return image.float().div_(255).pow_(self.gamma).sub_(self.mean).div_(self.std)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers in force as plain values, for report.json."""
        return {
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "gamma": self.gamma,
            "source": self.source,
        }

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load the stored numbers for any number of channels.

        A network with RGB weights stores one number per channel, a network from scratch one for
        all.
        """
        stored = {
            name: state_dict[f"{prefix}{name}"]
            for name in ("mean", "std")
            if f"{prefix}{name}" in state_dict
        }
        if any(
            not same_statistics(getattr(self, name).cpu(), value.cpu())
            for name, value in stored.items()
        ):
            self.source = SOURCE_CHECKPOINT
        for name, value in stored.items():
            if value.shape != getattr(self, name).shape:
                setattr(self, name, getattr(self, name).new_empty(value.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def same_statistics(first: Tensor, second: Tensor) -> bool:
    """Compare means or stds `1 x C x 1 x 1` up to the digits that messages show.

    A single number stands for all channels.
    """
    channels = {first.numel(), second.numel()}
    return (len(channels) == 1 or 1 in channels) and bool(
        torch.isclose(first, second, rtol=1e-4, atol=1e-6).all()
    )


def resolve_normalization(
    mean: Sequence[float] | str | None,
    std: Sequence[float] | str | None,
    gamma: float,
    statistics: PixelStatistics | None,
    scratch: ScratchNormalization | None,
) -> Normalize:
    """Make the normalization of a network.

    Args:
        mean: Mean per channel, None for 0, or `auto` for that of the pretrained weights, else
            `scratch`.
        std: Standard deviation per channel, None for 1, or `auto`; both are `auto` or neither is,
            because they belong to one set of images.
        gamma: Exponent of the pixels. The statistics of pretrained weights hold only for 1. The
            numbers of `scratch` are a fixed scaling that is used for any gamma.
        statistics: Statistics that the network's pretrained weights expect; None if unknown.
        scratch: `mean` and `std` of a network from scratch, or from a file that does not state
            them; None for 0 and 1.

    Raises:
        UserError: Only one of them is `auto`, or the statistics cannot be used.
    """
    if mean != AUTO and std != AUTO:
        return Normalize(mean or [0.0], std or [1.0], gamma)  # type: ignore[arg-type]
    if mean != std:
        raise UserError(
            f"module.mean={mean} module.std={std} mixes auto with given numbers; set both to auto,"
            " or give numbers for both"
        )
    if statistics is None:
        given = scratch or ScratchNormalization()
        return Normalize(given.mean or [0.0], given.std or [1.0], gamma, SOURCE_SCRATCH)
    if statistics.problem:
        raise UserError(
            f"module.mean=auto cannot be resolved, because {statistics.problem}; give numbers for"
            " module.mean and module.std"
        )
    if gamma != 1:
        raise UserError(
            f"module.gamma={gamma:g} cannot be combined with module.mean=auto, because pretrained"
            f" weights"
            f" expect gamma 1 ({statistics.source}); give numbers for module.mean and module.std,"
            " or set module.gamma=1"
        )
    return Normalize(statistics.mean, statistics.std, gamma, statistics.source)
