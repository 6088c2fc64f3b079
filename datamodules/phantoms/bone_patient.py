"""Patients of phantom bone scans: body, pose, and the uptake of each kind of tissue."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Patient:
    """Properties of a patient that both heads of the camera see alike.

    Attributes:
        stature: Crown to heel in cm; the anatomy is given for 170.
        frame: Width of the skeleton, 1.05 is average.
        girth: Depth of the tissue in front of and behind the bones, 1 is average.
        male: Decides the urethra's place.
        top: From the field's upper edge to the crown in cm.
        aside: Of the body from the field's middle in cm, to the anterior image's right.
        bend: Sideways bend of the spine in cm.
        tilt: Of the head in radians.
        angles: Of each limb's part in radians, outwards positive, as "thigh_left"; of a child
            towards its parent.
        axial: Uptake of skull, spine, ribs and pelvis, 1 is average.
        limbs: Uptake of the limbs.
        joints: Uptake of the limbs' joints.
        soft: Uptake of soft tissue.
        counts: Expected counts of the skeleton and the soft tissue in the anterior view.
    """

    stature: float
    frame: float
    girth: float
    male: bool
    top: float
    aside: float
    bend: float
    tilt: float
    angles: dict[str, float]
    axial: float
    limbs: float
    joints: float
    soft: float
    counts: float


def draw_patient(random: np.random.Generator, counts: tuple[float, float]) -> Patient:
    """Sample an adult; stature, girth, pose and uptake vary.

    Args:
        random: Source of everything random.
        counts: Least and most counts of skeleton and soft tissue in the anterior view, sampled
            evenly on a log scale.
    """
    male = bool(random.random() < 0.5)
    stature = float(np.clip(random.normal(169 if male else 158, 7.5), 140, 190))
    angles: dict[str, float] = {}
    for side in ("left", "right"):
        angles |= {
            f"arm_{side}": random.normal(-0.015, 0.025),
            f"forearm_{side}": random.normal(-0.02, 0.05),
        }
        angles |= {
            f"thigh_{side}": random.normal(0.0, 0.018),
            f"shin_{side}": random.normal(0.0, 0.015),
        }
        angles[f"foot_{side}"] = random.normal(0.1, 0.22)
    return Patient(
        stature=stature,
        frame=float(np.clip(random.normal(1.06 if male else 1.03, 0.045), 0.93, 1.15)),
        girth=float(np.clip(random.normal(1.0, 0.14), 0.7, 1.4)),
        male=male,
        top=random.uniform(5, 17),
        aside=random.normal(0, 0.8),
        bend=random.normal(0, 0.35) + random.choice([0.0, 1.5], p=[0.88, 0.12]) * random.normal(),
        tilt=random.normal(0, 0.05),
        angles=angles,
        axial=random.lognormal(0, 0.12),
        limbs=random.lognormal(-0.4, 0.25),
        joints=random.lognormal(-0.3, 0.28),
        soft=random.lognormal(0.15, 0.4),
        counts=float(np.exp(random.uniform(*np.log(counts)))),
    )
