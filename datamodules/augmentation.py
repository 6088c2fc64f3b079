"""Augmentation pipelines for uint8 images `H x W x C` and their masks; conf sets the numbers."""

import os
from typing import Annotated

import albumentations as A
from pydantic import Field

from datamodules.arguments import (
    FiniteFloat,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveRange,
    validated,
)
from datamodules.image_size import ImageSize, ImageSizeLike

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for updates at import


ScaleChange = Annotated[FiniteFloat, Field(ge=0, lt=1)]  # of a size; 1 would leave nothing


@validated
def mri(
    flip: Fraction = 0.5,
    rotate_degrees: NonNegativeFloat = 15.0,
    scale: ScaleChange = 0.0,
    affine: Fraction = 0.5,
    elastic: Fraction = 0.2,
    elastic_alpha: PositiveFloat = 60.0,
    blur: Fraction = 0.1,
    brightness: Fraction = 0.2,
    contrast: Fraction = 0.2,
    intensity: Fraction = 0.3,
) -> A.Compose:
    """Build the published brain-tumour pipeline of flips, rotations, elastic, blur and intensity.

    Args:
        flip: Probability of each of the horizontal and the vertical flip.
        rotate_degrees: Largest rotation to either side.
        scale: Largest relative change of size to either side.
        affine: Probability of rotating and scaling.
        elastic: Probability of the elastic deformation.
        elastic_alpha: Its strength; its smoothness is a twelfth of that, in pixels.
        blur: Probability of a Gaussian blur of 3 to 5 pixels.
        brightness: Largest relative change.
        contrast: Largest relative change.
        intensity: Probability of changing brightness and contrast.
    """
    return A.Compose(
        [
            A.HorizontalFlip(p=flip),
            A.VerticalFlip(p=flip),
            A.Affine(
                rotate=(-rotate_degrees, rotate_degrees),
                scale=(1 - scale, 1 + scale),
                border_mode=0,
                p=affine,
            ),
            A.ElasticTransform(
                alpha=elastic_alpha, sigma=elastic_alpha / 12, border_mode=0, p=elastic
            ),
            A.GaussianBlur(blur_limit=(3, 5), p=blur),
            A.RandomBrightnessContrast(
                brightness_limit=brightness, contrast_limit=contrast, p=intensity
            ),
        ]
    )


@validated
def radiograph(
    image_size: ImageSizeLike,
    crop: PositiveRange = (0.08, 1.0),
    aspect: PositiveRange = (0.75, 1.33),
    flip: Fraction = 0.5,
    rotate_degrees: NonNegativeFloat = 15.0,
    rotate: Fraction = 1.0,
    brightness: Fraction = 0.0,
    contrast: Fraction = 0.0,
) -> A.Compose:
    """Build the published pneumonia pipeline: random resized crop, horizontal flip, rotation.

    A change of brightness and contrast can be added; the published recipe has none.

    Args:
        image_size: Size of the resized crop in pixels: the side of a square, or [height, width].
        crop: Smallest and largest share of the picture's area that a crop takes; the default is
            torchvision's.
        aspect: Smallest and largest width : height of a crop.
        flip: Probability of the horizontal flip.
        rotate_degrees: Largest rotation to either side.
        rotate: Probability of rotating.
        brightness: Largest relative change.
        contrast: Largest relative change.
    """
    return A.Compose(
        [
            A.RandomResizedCrop(
                size=ImageSize.from_config(image_size), scale=tuple(crop), ratio=tuple(aspect)
            ),
            A.HorizontalFlip(p=flip),
            A.Affine(rotate=(-rotate_degrees, rotate_degrees), border_mode=0, p=rotate),
            A.RandomBrightnessContrast(
                brightness_limit=brightness,
                contrast_limit=contrast,
                p=1.0 if brightness or contrast else 0.0,
            ),
        ]
    )


@validated
def chest(
    flip: Fraction = 0.5,
    vertical_flip: Fraction = 0.0,
    rotate_degrees: NonNegativeFloat = 10.0,
    scale: ScaleChange = 0.1,
    affine: Fraction = 0.7,
    elastic: Fraction = 0.2,
    elastic_alpha: PositiveFloat = 60.0,
    brightness: Fraction = 0.2,
    contrast: Fraction = 0.2,
    intensity: Fraction = 0.5,
) -> A.Compose:
    """Build the published pneumothorax pipeline of flips, rotations, elastic and intensity.

    Args:
        flip: Probability of the horizontal flip.
        vertical_flip: Probability of the vertical flip; none by default, because a chest has an
            upper end.
        rotate_degrees: Largest rotation to either side.
        scale: Largest relative change of size to either side.
        affine: Probability of rotating and scaling.
        elastic: Probability of the elastic deformation.
        elastic_alpha: Its strength; its smoothness is a twelfth of that, in pixels.
        brightness: Largest relative change.
        contrast: Largest relative change.
        intensity: Probability of changing brightness and contrast.
    """
    return A.Compose(
        [
            A.HorizontalFlip(p=flip),
            A.VerticalFlip(p=vertical_flip),
            A.Affine(
                rotate=(-rotate_degrees, rotate_degrees),
                scale=(1 - scale, 1 + scale),
                border_mode=0,
                p=affine,
            ),
            A.ElasticTransform(
                alpha=elastic_alpha, sigma=elastic_alpha / 12, border_mode=0, p=elastic
            ),
            A.RandomBrightnessContrast(
                brightness_limit=brightness, contrast_limit=contrast, p=intensity
            ),
        ]
    )


@validated
def bone_scan(
    rotate_degrees: NonNegativeFloat = 5.0,
    translate: Fraction = 0.02,
    affine: Fraction = 1.0,
    brightness: Fraction = 0.1,
    contrast: Fraction = 0.1,
    intensity: Fraction = 1.0,
) -> A.Compose:
    """Build the published bone-scan pipeline: small rotations and shifts, light intensity changes.

    There are no flips.

    Args:
        rotate_degrees: Largest rotation to either side.
        translate: Largest shift along each axis, as a share of the canvas.
        affine: Probability of rotating and shifting.
        brightness: Largest relative change.
        contrast: Largest relative change.
        intensity: Probability of changing brightness and contrast.
    """
    return A.Compose(
        [
            A.Affine(
                rotate=(-rotate_degrees, rotate_degrees),
                translate_percent={"x": (-translate, translate), "y": (-translate, translate)},
                border_mode=0,
                p=affine,
            ),
            A.RandomBrightnessContrast(
                brightness_limit=brightness, contrast_limit=contrast, p=intensity
            ),
        ]
    )
