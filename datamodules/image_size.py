"""Size of the network's input, and the key of a sample; imports only the standard library."""

from collections.abc import Sequence
from typing import NamedTuple

ImageSizeLike = int | Sequence[int]  # the side of a square, or (height, width)


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
