"""Predictions of one image, as the writers of annotation files take them.

`write_coco`, `write_cvat` and `write_label_studio` take any iterable of them and keep no mask, so
that a prediction of any number of images is written as it is made. An annotation tool opens the
file, a person corrects it, and the readers of this package read what the tool exports.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from datamodules.errors import UserError
from datamodules.formats.rle import Rle, decode_rle, encode_rle

MAX_LESIONS = 100  # shapes of one class in one image; smaller lesions are joined into the last one
MODEL = "model"  # name of a model that has none


@dataclass(frozen=True)
class PredictedImage:
    """Masks and probabilities that a model predicted for one image.

    Attributes:
        file: Path of the image relative to the folder of the annotation file, in POSIX form.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        masks: Compressed RLE of each class at the image's own size; classes without a pixel may
            be left out.
        probabilities: Probability of each class in the image; empty if the model gives none.
        positive: Classes that the decision rule calls present, for a classification.
    """

    file: str
    height: int
    width: int
    masks: Mapping[str, Rle] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)
    positive: Sequence[str] = ()

    @classmethod
    def from_masks(
        cls,
        file: str,
        masks: Mapping[str, np.ndarray],
        probabilities: Mapping[str, float] | None = None,
    ) -> "PredictedImage":
        """Encode bool masks `H x W`, at least one.

        Raises:
            ValueError: The masks have several sizes.
        """
        stacked = np.stack(list(masks.values()), axis=-1)
        rles = dict(zip(masks, encode_rle(stacked), strict=True))
        height, width = stacked.shape[:2]
        kept = {name: rle for name, rle in rles.items() if rle is not None}
        return cls(file, height, width, kept, probabilities or {})


def check_prediction(image: PredictedImage, classes: Sequence[str]) -> None:
    """Refuse an image whose predictions do not fit it, or whose name no file can hold.

    Raises:
        UserError: A class is unknown, a mask has another size than its image, or the name of the
            file has control characters or bytes that are no text.
    """
    unknown = [name for name in (*image.masks, *image.positive) if name not in classes]
    if unknown:
        raise UserError(
            f"{image.file} has a prediction of the class '{unknown[0]}', which is none of"
            f" {', '.join(classes)}; name every class"
        )
    for name, rle in image.masks.items():
        if list(rle["size"]) != [image.height, image.width]:
            raise UserError(
                f"{image.file} has {image.height} x {image.width} pixels, and its mask of '{name}'"
                f" {rle['size'][0]} x {rle['size'][1]}; predict masks at the image's own size"
            )
    if not image.file.isprintable():
        raise UserError(
            f"the file name {image.file!r} has characters that are no text, which annotation files"
            " cannot hold; rename the file"
        )


def iterate_lesions(
    image: PredictedImage, classes: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield class and mask of each lesion, so that a person can remove or correct one of them.

    A lesion is a component of pixels that touch at a side or a corner. The union of a class's
    lesions is its mask.

    Args:
        image: Predictions of one image.
        classes: Names of the classes in order.

    Yields:
        Name of the class and uint8 0/1 `H x W`.
    """
    for name in classes:
        if name in image.masks:
            mask = decode_rle([image.masks[name]], image.height, image.width)[..., 0]
            for lesion in _split_lesions(mask):
                yield name, lesion


def _split_lesions(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the components of a mask, the largest first."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")
    shapes = len(order) if len(order) <= MAX_LESIONS else MAX_LESIONS - 1
    for number in order[:shapes]:
        yield (labels == number).astype(np.uint8)
    if len(order) > shapes:
        yield np.isin(labels, order[shapes:]).astype(np.uint8)


def lesion_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the smallest box round a mask that is not empty."""
    left, top, width, height = cv2.boundingRect(mask)
    return left, top, width, height
