"""Picture of a manifest row: its image, or the square that `crop` asks for, of checked size."""

from typing import Any

import numpy as np

from datamodules.crop_of import get_crop
from datamodules.manifest import Manifest
from datamodules.refusal import LARGEST_IMAGE, ManifestError


def load_view(manifest: Manifest, row: int, pixels: np.ndarray) -> np.ndarray:
    """Return a row's picture: its image `pixels`, uint8 `H x W x C`, or the square in `crop`.

    Raises:
        ManifestError: the image is not of the size its row says, or the crop does not overlap it.
    """
    rows: Any = manifest.rows
    height, width = pixels.shape[:2]
    if "height" in rows:
        _check_same_size(
            rows["image"].iat[row],
            [[rows["height"].iat[row], rows["width"].iat[row]]],
            height,
            width,
        )
    crop = get_crop(manifest, row)
    if crop and not (
        -crop[2] < crop[0] < height and -crop[2] < crop[1] < width and crop[2] ** 2 <= LARGEST_IMAGE
    ):
        raise ManifestError(
            f"the crop {crop} of {rows['image'].iat[row]} does not lie on its {height} x {width}"
            " pixels; correct it"
        )
    return crop_square(pixels, crop) if crop else pixels


def crop_square(pixels: np.ndarray, crop: list[int]) -> np.ndarray:
    """Cut the square [top, left, side] out of `H x W x C` pixels; zeros where it reaches beyond."""
    top, left, side = crop
    square = np.zeros((side, side, pixels.shape[2]), pixels.dtype)
    inside = pixels[max(top, 0) : top + side, max(left, 0) : left + side]
    square[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    return square


def check_size(
    manifest: Manifest, row: int, said: list[list[int]], height: int, width: int
) -> None:
    """Refuse a mask of another size than the picture it belongs to, in pixels."""
    crop, path = get_crop(manifest, row), str(manifest.rows["image"].iat[row])
    _check_same_size(f"the crop {crop} of {path}" if crop else path, said, height, width)


def _check_same_size(what: str, said: list[list[int]], height: int, width: int) -> None:
    for other in said:
        if (int(other[0]), int(other[1])) != (height, width):
            mend = "export image and mask together"
            raise ManifestError(
                f"{what} is {height} x {width} pixels, but its annotation says {other[0]} x"
                f" {other[1]}; {mend}"
            )
