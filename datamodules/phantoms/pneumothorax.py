"""Phantom chest radiographs with and without pneumothorax, in the layouts of SIIM-ACR.

Some patients have several images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules.arguments import Count, Fraction, NonNegative, Whole, validated
from datamodules.phantoms.chest import draw_patient
from datamodules.phantoms.chest_patient import Patient
from datamodules.phantoms.chest_pneumothorax import draw_area, draw_pneumothorax
from datamodules.phantoms.folder import written_once
from datamodules.phantoms.pneumothorax_dicom import write_kaggle
from datamodules.phantoms.pneumothorax_layouts import Drawn, write_png, write_tree

LAYOUTS = {"kaggle": write_kaggle, "png": write_png, "tree": write_tree}
IMAGES_PER_PATIENT = (0.62, 0.28, 0.10)
IMAGE_ID = "1.2.276.0.7230010.3.1.4.8323329.{}.15178751{:02}.{}"  # as the competition's


@dataclass
class _Planned:
    """One image before it is drawn."""

    number: int
    # images with the highest values have a pneumothorax; those of one patient have similar values
    leaning: float
    positive: bool = False
    test: bool = False


@validated
def write(
    root: Path,
    images: Count = 400,
    size: Count = 160,
    positive: Fraction = 0.22,
    layout: Literal["kaggle", "png", "tree"] = "kaggle",
    confounders: bool = True,
    contrast: NonNegative = 1.0,
    seed: Whole = 0,
) -> None:
    """Write the drawn images below `root`, once, in one of three layouts.

    The images do not depend on the layout; each layout has the irregularities of the real one.

    Args:
        root: The folder to write; left alone when it holds the same phantoms already.
        images: How many; a patient has 1 to 3 of them.
        size: Side of the pictures in pixels.
        positive: Share of images with a pneumothorax; 0.22 in the real set.
        layout: "kaggle" for DICOM files with train-rle.csv, and patients.csv that the real set
            lacks; "png" for png_images with png_masks; "tree" for
            siim-acr-png/{images,masks}/{train,test}. The latter two hold out about 15 % of the
            patients.
        confounders: Whether tubes, skin folds, clothes, hair and scapulae may lie over the lungs.
        contrast: Of the pneumothoraces, see `draw_pneumothorax`.
        seed: Source of everything random.

    Raises:
        Refusal: `layout` is none of the three, or `root` exists and holds no phantoms.
    """
    numbers = {
        "images": images,
        "size": size,
        "positive": positive,
        "layout": layout,
        "confounders": confounders,
        "contrast": contrast,
    }
    numbers |= {"seed": seed, "version": 2}
    with written_once(root, numbers) as folder:
        if folder is not None:
            LAYOUTS[layout](
                folder,
                draw_all(images, size, positive, confounders, seed, contrast),
                np.random.default_rng([seed, 2]),
            )


def draw_all(
    images: int, size: int, positive: float, confounders: bool, seed: int, contrast: float = 1.0
) -> Iterator[Drawn]:
    """Yield all images of a set, patient by patient; see `write` for the arguments."""
    random = np.random.default_rng([seed, 0])
    patients = _plan(random, images, positive)
    numbers = random.permutation(images) + 301
    for group, (patient, planned) in enumerate(patients):
        for one in planned:
            own = np.random.default_rng([seed, 1, one.number])
            name = IMAGE_ID.format(
                numbers[one.number], own.integers(100), own.integers(10**5, 10**6)
            )
            image, mask = draw_pneumothorax(
                own,
                size,
                size,
                patient,
                draw_area(own) if one.positive else None,
                confounders,
                contrast,
            )
            yield Drawn(name, f"p{group:05d}", image, mask, one.test)


def _plan(
    random: np.random.Generator, images: int, positive: float
) -> list[tuple[Patient, list[_Planned]]]:
    """Plan patients and their images.

    Every seventh patient is held out, among those with and those without a pneumothorax.
    """
    patients: list[tuple[Patient, list[_Planned]]] = []
    total = 0
    while total < images:
        count = min(int(random.choice(3, p=IMAGES_PER_PATIENT)) + 1, images - total)
        leaning = random.random()
        patients.append(
            (
                draw_patient(random),
                [_Planned(total + i, leaning + 0.5 * random.random()) for i in range(count)],
            )
        )
        total += count
    ranked = sorted(
        (one for _, planned in patients for one in planned), key=lambda one: -one.leaning
    )
    for one in ranked[: round(positive * images)]:
        one.positive = True
    for place, (_, planned) in enumerate(
        sorted(patients, key=lambda each: any(one.positive for one in each[1]))
    ):
        for one in planned:
            one.test = place % 7 == 3
    return patients
