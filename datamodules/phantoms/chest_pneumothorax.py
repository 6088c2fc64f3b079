"""Frontal chest radiographs with and without pneumothorax, and masks of the pleural air."""

from copy import copy

import numpy as np

from datamodules.phantoms.chest_canvas import SIDES
from datamodules.phantoms.chest_collapse import collapsed
from datamodules.phantoms.chest_confounders import confounding
from datamodules.phantoms.chest_film import acquire, beam
from datamodules.phantoms.chest_patient import Patient
from datamodules.phantoms.chest_shadows import Chest


def draw_area(random: np.random.Generator) -> float:
    """Sample a lesion's area as a share of the image, distributed as in SIIM-ACR.

    There it is 55 to 161,421 of 1024^2 pixels, median 8,630, mean 14,331.
    """
    return float(np.clip(8630 * random.lognormal(0, 1.0), 55, 161421) / 1024**2)


def draw_pneumothorax(
    random: np.random.Generator,
    height: int,
    width: int,
    patient: Patient,
    area: float | None,
    confounders: bool = True,
    contrast: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image of a patient, with or without pneumothorax.

    Each image has its own pose, breath and exposure.

    Args:
        random: Source of everything that varies between images of one patient. Pneumothorax and
            confounders are sampled from children of it, so that without them everything else of the
            same seed stays as it is.
        height: Of the image in pixels.
        width: Of the image in pixels.
        patient: Whose image it is.
        area: Of the pneumothorax as a share of the image, see `collapsed`; None for none.
        confounders: Whether tubes, skin folds, clothes, hair and scapulae may lie over the lungs.
        contrast: Of the pneumothorax and of the confounders that resemble it; 1 is about that of
            real ones, more makes up for few images or few pixels.

    Returns:
        The image, uint8 `height x width`, and the pleural air, uint8 0/1 `height x width`.
    """
    of_lesion, of_confounders = random.spawn(2)
    chest = Chest(random, height, width, patient)
    body, heart, lungs = chest.body(), chest.heart(enlarged=False), chest.lungs()
    air = lungs * (1 - 0.9 * heart)
    lost = chest.crowding()
    signal, vessels = (
        body + 0.12 * heart + chest.skeleton() + chest.soft_tissue() - chest.airway(),
        chest.vessels(),
    )
    mask, side = np.zeros((height, width), np.uint8), 0
    if area is not None:
        side = int(of_lesion.choice(SIDES, p=[0.55, 0.45]))
        collapse = collapsed(
            chest, of_lesion, (lungs > 0.25) & (heart < 0.5) & (side * chest.x > 0), side, area
        )
        mask = (collapse.air > 0.5).astype(np.uint8)
        denser = (
            collapse.lung * (0.02 + 0.4 * collapse.share) * of_lesion.uniform(0.5, 1.2) * contrast
        )
        lost = (
            lost * (1 - collapse.air)
            + denser
            - contrast * of_lesion.uniform(0.02, 0.09) * collapse.air
        )
        vessels = (
            vessels * (1 - collapse.air) + contrast * of_lesion.uniform(0.05, 0.11) * collapse.line
        )
    signal += air * (vessels - patient.air * (1 - lost)) + chest.clutter()
    if confounders:
        overlaid = copy(chest)
        overlaid.random = of_confounders
        signal += confounding(overlaid, side, contrast)
    return acquire(random, signal * beam(chest), chest.scale), mask
