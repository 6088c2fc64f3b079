"""Named augmentation pipelines for uint8 images `H x W x C` and their masks; the numbers come from conf."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for updates at import

import albumentations as A


def mri(
    flip: float = 0.5,
    rotate_degrees: float = 15.0,
    scale: float = 0.0,
    affine: float = 0.5,
    elastic: float = 0.2,
    elastic_alpha: float = 60.0,
    blur: float = 0.1,
    brightness: float = 0.2,
    contrast: float = 0.2,
    intensity: float = 0.3,
) -> A.Compose:
    """Flips, rotations, elastic deformation, blur, brightness and contrast: the published brain-tumour recipe.

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
            A.Affine(rotate=(-rotate_degrees, rotate_degrees), scale=(1 - scale, 1 + scale), border_mode=0, p=affine),
            A.ElasticTransform(alpha=elastic_alpha, sigma=elastic_alpha / 12, border_mode=0, p=elastic),
            A.GaussianBlur(blur_limit=(3, 5), p=blur),
            A.RandomBrightnessContrast(brightness_limit=brightness, contrast_limit=contrast, p=intensity),
        ]
    )
