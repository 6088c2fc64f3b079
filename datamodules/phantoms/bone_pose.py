"""Pose of a phantom patient before the camera: build, bend of the spine, angles of the limbs."""

from dataclasses import dataclass

import numpy as np

from datamodules.phantoms.bone_outlines import Outline
from datamodules.phantoms.bone_patient import Patient

FIELD = 226.0  # cm that a whole-body scan is high: 1024 rows of 2.21 mm; a quarter of it wide
JOINTS: dict[
    str, tuple[str, tuple[float, float]]
] = {  # of each part: the part that carries it, and the point it turns about
    "arm": ("", (16.8, 33.5)),
    "forearm": ("arm", (20.5, 60.0)),
    "thigh": ("", (9.0, 90.0)),
    "shin": ("thigh", (9.5, 130.5)),
    "foot": ("shin", (9.5, 167.0)),
    "head": ("", (0.0, 24.0)),
}


@dataclass(frozen=True)
class Site:
    """A piece of bone where a lesion may sit.

    Attributes:
        bone: As "rib".
        part: Of the body that it moves with, as "thigh_left".
        x: Of its middle in the body's cm.
        y: Of its middle in the body's cm.
        turn: Direction along the bone, from x towards y, in radians.
        width: Across the bone in cm.
        front: cm of tissue before it.
        back: cm of tissue behind it.
    """

    bone: str
    part: str
    x: float
    y: float
    turn: float
    width: float
    front: float
    back: float


def pose(patient: Patient, part: str, points: Outline) -> Outline:
    """Map points of the body to the anterior view.

    Args:
        patient: Who lies there.
        part: Of the body, as "trunk", "head" or "shin_left".
        points: `points x 2` in cm of a body of 170 cm.

    Returns:
        `points x 2` in cm from the field's upper left corner.
    """
    name, _, side = part.partition("_")
    sign = -1 if side == "right" else 1
    while name in JOINTS:
        parent, joint = JOINTS[name]
        middle = np.array(joint) * (sign, 1)
        angle = patient.tilt if name == "head" else -sign * patient.angles[f"{name}_{side}"]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (points - middle) @ turn.T + middle
        name = parent
    x, y = points[:, 0], points[:, 1]
    along = np.clip((y - 20) / 58, 0, 1)  # of the spine, whose ends stay where they are
    x = x * patient.frame + patient.bend * np.sin(np.pi * along) ** 2 * np.exp(-((x / 9) ** 2))
    scale = patient.stature / 170
    return np.stack([x * scale + patient.aside + FIELD / 8, y * scale + patient.top], 1)
