"""Types of a sample: its key (image, epoch, size), its canvas, and the fields of a batch."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypedDict

from pydantic import BeforeValidator
from torch import Tensor

from datamodules.arguments import Meaning

ImageSizeLike = Annotated[  # of a canvas, as a user writes it
    int | Sequence[int],
    BeforeValidator(
        lambda size: list(size) if isinstance(size, tuple) else size
    ),  # a Canvas is a tuple with a constructor of its own
    Meaning("the side of a square in pixels, such as 512, or [height,width], such as [1024,512]"),
]


class ImageSize(NamedTuple):
    """The network's input in pixels."""

    height: int
    width: int

    @classmethod
    def from_config(cls, size: ImageSizeLike) -> "ImageSize":
        """Make a canvas from the side of a square, or (height, width)."""
        return cls(size, size) if isinstance(size, int) else cls(*map(int, size))

    @property
    def as_config(self) -> int | list[int]:
        """The canvas as a user writes it, and as a file may hold it."""
        return self.height if self.height == self.width else [self.height, self.width]

    def __str__(self) -> str:
        return f"{self.height}" if self.height == self.width else f"{self.height} x {self.width}"

    def covers(self, other: "ImageSize") -> bool:
        """Return True if a picture on this canvas can be resized to `other` without loss of detail.

        It is then at least as large and of the same shape.
        """
        return (
            self.height >= other.height and self.height * other.width == self.width * other.height
        )


class SampleKey(NamedTuple):
    """All that a sample depends on; its augmentation is seeded from (seed, key).

    Attributes:
        row: Row of the manifest.
        epoch: Epoch that shows it.
        draw: How often this row was sampled before in this epoch.
        image_size: The canvas in pixels: the side of a square, or (height, width).
    """

    row: int
    epoch: int
    draw: int
    image_size: ImageSizeLike


class ContentBox(NamedTuple):
    """Place of the picture on its canvas, in pixels; what is outside is padding."""

    top: int
    left: int
    height: int
    width: int

    @property
    def inside(self) -> tuple[Any, slice, slice]:
        """Cuts the padding off an array `... x H x W`, as in `canvas[content.inside]`."""
        return (
            ...,
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


class Sample(TypedDict, total=False):
    """One image and what is known of it; a batch has the same fields with a leading B.

    Strings, `content`, and truths of different sizes are lists in a batch.

    Attributes:
        id: Unique name of the image.
        group: What must stay together in a split, the patient where known.
        image: uint8 `C x H x W`, 0..255.
        mask: uint8 `classes x H x W`, 0 or 1, on the canvas of `image`.
        truth: uint8 `classes x h x w` on the evaluation grid (padding removed); absent in training.
        content: The picture's place on the canvas.
        label: int or multi-hot float `classes`.
        weight: float, this sample's weight in the loss.
    """

    id: Any
    group: Any
    image: Tensor
    mask: Tensor
    truth: Any
    content: Any
    label: Tensor
    weight: Tensor
