"""Random transforms of uint8 images `H x W x C` and their masks; conf puts them into a pipeline.

Only this file uses the library that applies them (albumentations), so another library means
changing only this file. Masks are resampled with nearest neighbor, so they stay 0 or 1. Pixels that
a transform moves into the image are black and outside the mask.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any
from zlib import crc32

import numpy as np
from pydantic import Field

from datamodules.arguments import (
    Fraction,
    ImageSizeArgument,
    NonNegativeFloat,
    OddRange,
    PositiveFractionRange,
    PositiveInt,
    PositiveRange,
    validated,
)
from datamodules.image_size import ImageSize

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for updates at import
import albumentations as A

# relative change in either direction; 1 would leave nothing of the image
Change = Annotated[float, Field(ge=0, lt=1)]
GammaChange = Annotated[float, Field(ge=0, le=0.9)]
# the library needs a displacement field that is smooth over at least one pixel: sigma = alpha / 12
ElasticStrength = Annotated[float, Field(ge=12)]
ClipLimit = Annotated[float, Field(ge=1)]


@validated
class Transform:
    """Change an image and its masks at random.

    It is the base class of the transforms below. It also takes any other transform of the library:
    `{_target_: datamodules.augmentation.Transform, transform: {_target_: albumentations.Blur}}`.

    Args:
        transform: A transform of albumentations.
    """

    def __init__(self, transform: A.BasicTransform) -> None:
        self.transform = transform


def transform_seed(seed: int, name: str) -> int:
    """Return the seed of one transform of a pipeline.

    The library gives all transforms the same seed and therefore the same random numbers: two flips
    of p=0.5 would either both happen or neither.
    """
    return seed ^ crc32(name.encode()) << 32


@validated
class Pipeline:
    """Sequence of random transforms of an image and its masks.

    Args:
        transforms: Name -> transform, in the order in which they are applied. The names are the
            user's own; a transform that is None is skipped. Each one takes its random numbers from
            the seed and its name, so adding or removing one does not change the others.
    """

    def __init__(self, transforms: Mapping[str, Transform | None]) -> None:
        self.transforms = {name: each for name, each in transforms.items() if each is not None}
        self._compose = A.Compose([each.transform for each in self.transforms.values()])

    def __call__(self, planes: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
        """Return the planes augmented; the same seed gives the same result.

        Args:
            planes: `image`, uint8 `H x W x C`, and optionally `mask`, uint8 `H x W x classes`.
            seed: Seed of all random numbers.
        """
        for name, each in self.transforms.items():
            each.transform.set_random_seed(transform_seed(seed, name))
        return self._compose(**planes)


@validated
class HorizontalFlip(Transform):
    """Mirror left and right.

    Args:
        p: Probability.
    """

    def __init__(self, p: Fraction = 0.5) -> None:
        super().__init__(A.HorizontalFlip(p=p))


@validated
class VerticalFlip(Transform):
    """Mirror top and bottom.

    Args:
        p: Probability.
    """

    def __init__(self, p: Fraction = 0.5) -> None:
        super().__init__(A.VerticalFlip(p=p))


@validated
class Affine(Transform):
    """Rotate, scale and shift in one resampling.

    Args:
        degrees: Largest rotation to either side.
        scale: Largest relative change of size in either direction, for each axis separately.
        translate: Largest shift along each axis, as a fraction of the canvas.
        p: Probability.
    """

    def __init__(
        self,
        degrees: NonNegativeFloat = 0.0,
        scale: Change = 0.0,
        translate: Fraction = 0.0,
        p: Fraction = 0.5,
    ) -> None:
        shift = {"x": (-translate, translate), "y": (-translate, translate)}
        super().__init__(
            A.Affine(
                rotate=(-degrees, degrees),
                scale=(1 - scale, 1 + scale),
                translate_percent=shift if translate else None,
                border_mode=0,
                p=p,
            )
        )


@validated
class RandomResizedCrop(Transform):
    """Cut out a random part and resize it.

    Args:
        size: Size of the result in pixels: the side of a square, or [height, width].
        scale: Smallest and largest area of a crop, as a fraction of the image's area; the default
            is torchvision's.
        ratio: Smallest and largest aspect ratio (width / height) of a crop.
        p: Probability.
    """

    def __init__(
        self,
        size: ImageSizeArgument,
        scale: PositiveFractionRange = (0.08, 1.0),
        ratio: PositiveRange = (0.75, 1.33),
        p: Fraction = 1.0,
    ) -> None:
        size = ImageSize.from_config(size)
        super().__init__(A.RandomResizedCrop(size, scale=tuple(scale), ratio=tuple(ratio), p=p))


@validated
class ElasticTransform(Transform):
    """Deform the image by a smooth random field of displacements.

    Args:
        alpha: Strength; the Gaussian sigma that smooths the field is alpha / 12 pixels.
        p: Probability.
    """

    def __init__(self, alpha: ElasticStrength = 60.0, p: Fraction = 0.5) -> None:
        super().__init__(A.ElasticTransform(alpha=alpha, sigma=alpha / 12, border_mode=0, p=p))


@validated
class GridDistortion(Transform):
    """Stretch and compress the cells of a grid.

    Args:
        steps: Number of cells along each axis.
        distort: Largest relative change of a cell's size.
        p: Probability.
    """

    def __init__(self, steps: PositiveInt = 5, distort: Change = 0.3, p: Fraction = 0.5) -> None:
        super().__init__(
            A.GridDistortion(num_steps=steps, distort_limit=distort, border_mode=0, p=p)
        )


@validated
class GaussianBlur(Transform):
    """Blur with a Gaussian.

    Args:
        kernel_size: Smallest and largest size of the kernel in pixels; an odd size between them is
            sampled.
        p: Probability.
    """

    def __init__(self, kernel_size: OddRange = (3, 5), p: Fraction = 0.5) -> None:
        super().__init__(A.GaussianBlur(blur_limit=tuple(kernel_size), p=p))


@validated
class GaussNoise(Transform):
    """Add Gaussian noise.

    Args:
        std: Largest standard deviation, as a fraction of the range of gray values.
        p: Probability.
    """

    def __init__(self, std: Fraction = 0.05, p: Fraction = 0.5) -> None:
        super().__init__(A.GaussNoise(std_range=(0.0, std), p=p))


@validated
class RandomBrightnessContrast(Transform):
    """Change brightness and contrast.

    Args:
        brightness: Largest change in either direction, as a fraction of the range of gray values.
        contrast: Largest relative change in either direction.
        p: Probability.
    """

    def __init__(
        self, brightness: Fraction = 0.2, contrast: Fraction = 0.2, p: Fraction = 0.5
    ) -> None:
        super().__init__(
            A.RandomBrightnessContrast(brightness_limit=brightness, contrast_limit=contrast, p=p)
        )


@validated
class RandomGamma(Transform):
    """Raise gray values, scaled to 0..1, to a random power.

    Args:
        gamma: Largest difference of the exponent from 1, in either direction.
        p: Probability.
    """

    def __init__(self, gamma: GammaChange = 0.2, p: Fraction = 0.5) -> None:
        super().__init__(A.RandomGamma(gamma_limit=(100 * (1 - gamma), 100 * (1 + gamma)), p=p))


class _ChannelCLAHE(A.CLAHE):
    """CLAHE that also takes images of other than one or three channels, one by one."""

    def apply(self, img: np.ndarray, clip_limit: float, **params: Any) -> np.ndarray:
        """Equalize an image `H x W x C`."""
        if img.shape[2] in (1, 3):
            return super().apply(img, clip_limit, **params)
        channels = [img[..., c : c + 1] for c in range(img.shape[2])]
        equalized = [super(_ChannelCLAHE, self).apply(c, clip_limit, **params) for c in channels]
        return np.concatenate(equalized, axis=2)


@validated
class CLAHE(Transform):
    """Equalize the histogram of each tile with a limited contrast (CLAHE).

    Args:
        clip_limit: Largest limit of the contrast; the limit is sampled from 1 to this value.
        tiles: Number of tiles along each axis.
        p: Probability.
    """

    def __init__(
        self, clip_limit: ClipLimit = 4.0, tiles: PositiveInt = 8, p: Fraction = 0.5
    ) -> None:
        super().__init__(
            _ChannelCLAHE(clip_limit=(1.0, clip_limit), tile_grid_size=(tiles, tiles), p=p)
        )


@validated
class CoarseDropout(Transform):
    """Black out rectangles of the image; masks stay as they are.

    Args:
        holes: Largest number of rectangles; the number is sampled from 1 to this value.
        size: Largest side of a rectangle, as a fraction of the canvas.
        p: Probability.
    """

    def __init__(self, holes: PositiveInt = 4, size: Change = 0.2, p: Fraction = 0.5) -> None:
        super().__init__(
            A.CoarseDropout(
                num_holes_range=(1, holes),
                hole_height_range=(0.0, size),
                hole_width_range=(0.0, size),
                p=p,
            )
        )
