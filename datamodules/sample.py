"""Types of a sample: its key (image, epoch, size), its canvas, and the fields of a batch."""

from typing import Any, TypedDict

from torch import Tensor


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
