"""Size of the network's input, and the key of a sample."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator

from datamodules.arguments import AllowedValues, ArgumentError, format_config_value

ImageSizeLike = Annotated[  # image size as a user writes it
    int | Sequence[int],
    BeforeValidator(
        lambda size: list(size) if isinstance(size, tuple) else size
    ),  # an ImageSize is a tuple with a constructor of its own
    AllowedValues(
        "the side of a square in pixels, such as 512, or [height,width], such as [1024,512]"
    ),
]


def _check_halvings(size: int | Sequence[int]) -> int | Sequence[int]:
    """Refuse sides that the networks cannot halve five times, and more sides than two."""
    sides = [size] if isinstance(size, int) else list(size)
    if len(sides) not in (1, 2):
        raise ValueError("an image size has one or two numbers")
    if any(side % 32 or side <= 0 for side in sides):
        nearest = [max(32, round(side / 32) * 32) for side in sides]
        raise ArgumentError(
            "",
            (),
            f"={format_config_value(size)} is not a multiple of 32, which the networks need; try"
            f" {format_config_value(nearest[0] if isinstance(size, int) else nearest)}",
        )
    return size


NetworkInputSize = Annotated[ImageSizeLike, AfterValidator(_check_halvings)]


class ImageSize(NamedTuple):
    """Height and width of the network's input in pixels."""

    height: int
    width: int

    @classmethod
    def from_config(cls, size: ImageSizeLike) -> "ImageSize":
        """Make an image size from the side of a square, or from (height, width)."""
        return cls(size, size) if isinstance(size, int) else cls(*map(int, size))

    @property
    def as_config(self) -> int | list[int]:
        """Image size as a user writes it and as files store it: the side, or [height, width]."""
        return self.height if self.height == self.width else [self.height, self.width]

    def __str__(self) -> str:
        return f"{self.height}" if self.height == self.width else f"{self.height} x {self.width}"

    def covers(self, other: "ImageSize") -> bool:
        """Return True if an image of this size can be resized to `other` without loss of detail.

        This size is then at least as large and has the same aspect ratio.
        """
        return (
            self.height >= other.height and self.height * other.width == self.width * other.height
        )


class SampleKey(NamedTuple):
    """Key that determines a sample; its augmentation is seeded from (seed, key).

    Attributes:
        row: Row of the manifest.
        epoch: Number of the epoch.
        repeat: Number of times this row was sampled before in this epoch.
        image_size: Size of the canvas in pixels: the side of a square, or (height, width).
    """

    row: int
    epoch: int
    repeat: int
    image_size: ImageSizeLike
