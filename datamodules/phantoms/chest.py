"""Frontal chest radiographs, hard enough that brightness alone does not find the findings."""

from collections.abc import Collection

import numpy as np

from datamodules.phantoms.chest_film import acquire, beam, mark
from datamodules.phantoms.chest_patient import Patient
from datamodules.phantoms.chest_shadows import Chest

FINDINGS = ("opacity", "effusion", "enlarged_heart", "nodule", "device")


def draw_patient(random: np.random.Generator) -> Patient:
    """Sample a patient."""
    between = random.uniform
    return Patient(
        half_width=between(11, 16),
        height=between(19, 27),
        wall=between(1.8, 3.2),
        mediastinum=between(1.9, 3.0),
        heart=between(0.39, 0.50),
        heart_shift=between(0.8, 2.0),
        dome=between(2.0, 5.5),
        rib_spacing=between(2.1, 2.8),
        rib_slope=between(2.5, 6.0),
        rib_strength=between(0.06, 0.14),
        clavicle=between(-0.5, 3.5),
        bend=2.5 * between(-1, 1) ** 3,  # few spines bend much
        tissue=between(1.5, 5.0),
        breast=between(0.04, 0.16) if random.random() < 0.45 else 0.0,
        air=between(0.5, 0.62),
        vessels=int(random.integers(2**31)),
    )


def draw_radiograph(
    random: np.random.Generator,
    height: int,
    width: int,
    patient: Patient,
    findings: Collection[str] = (),
    marker: str | None = None,
) -> np.ndarray:
    """Draw one image of a patient in its own pose, breath and exposure.

    Args:
        random: Source of everything that varies between images of one patient.
        height: Of the image in pixels.
        width: Of the image in pixels.
        patient: Whose image it is.
        findings: Some of FINDINGS.
        marker: Bright letters in a corner, such as "R" or "AP PORTABLE".

    Returns:
        uint8 `height x width`; bone and fluid bright, air dark.
    """
    unknown = set(findings) - set(FINDINGS)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are none of {FINDINGS}")
    chest = Chest(random, height, width, patient)
    body, heart, lungs = chest.body(), chest.heart("enlarged_heart" in findings), chest.lungs()
    air = lungs * (1 - 0.9 * heart)
    lost = chest.crowding() * air
    if "opacity" in findings:
        lost = np.maximum(lost, air * chest.opacity(air))
    if "effusion" in findings:
        lost = np.maximum(lost, air * chest.effusion())
    signal = (
        body + 0.12 * heart + chest.skeleton() + chest.soft_tissue() - patient.air * (air - lost)
    )
    signal += air * chest.vessels() - chest.airway()
    if "nodule" in findings:
        signal += chest.nodules(air)
    signal += chest.clutter() + (chest.device() if "device" in findings else 0)
    return mark(random, acquire(random, signal * beam(chest), chest.scale), marker)
