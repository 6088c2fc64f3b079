"""Faint soft tissue around the bones of phantom bone scans."""

import numpy as np

from datamodules.phantoms.bone_gantry import Gantry
from datamodules.phantoms.bone_outlines import ellipse, strip

HALF = np.array(
    [
        (4.5, 24),
        (5.5, 28),
        (12, 30),
        (16.5, 31.5),
        (16.5, 38),
        (15, 48),
        (14, 58),
        (14.2, 66),
        (16, 76),
        (17.5, 90),
        (17, 97),
        (0, 99),
    ]
)
LIMBS = {  # the line in it, its widths, uptake and depth
    "arm": ([(17, 31), (17.8, 42), (20.5, 60)], [7, 8, 6.5], 0.10, 4),
    "forearm": ([(20.5, 59), (21.2, 68), (22, 85), (22.4, 97)], [6.5, 7, 4.6, 5], 0.09, 3),
    "thigh": ([(9.6, 90), (10, 104), (9.6, 120), (9.5, 131)], [15, 14.5, 11, 9.5], 0.15, 7),
    "shin": ([(9.5, 130), (9.8, 141), (9.4, 156), (9.5, 167)], [9.5, 10.5, 7, 5.5], 0.12, 5),
    "foot": ([(9.5, 166), (10.5, 171), (12, 178)], [5.5, 6.5, 6], 0.08, 3),
}


def draw_soft_tissue(gantry: Gantry) -> None:
    """Draw muscle, fat and blood around the bones, and the liver, scaled with the body's girth."""
    soft, stout = gantry.patient.soft * gantry.patient.girth, 0.75 + 0.25 * gantry.patient.girth
    half = HALF * (stout, 1)
    torso = np.concatenate([half, half[::-1] * (-1, 1)])
    gantry.add("trunk", [(torso, 0.16 * soft)], 8, 8, haze=True)
    gantry.add(
        "trunk",
        [(ellipse(0, 44, 9, 9), 0.05 * soft), (ellipse(0, 86, 15, 12), 0.09 * soft)],
        8,
        8,
        haze=True,
    )
    gantry.add(
        "trunk",
        [(ellipse(-6.5, 55, 6.5, 5), 0.1 * soft * gantry.random.uniform(0, 1.5))],
        6,
        8,
        haze=True,
    )  # liver
    gantry.add("head", [(ellipse(0, 11, 8.4, 11.2), 0.11 * soft)], 8, 8, haze=True)
    for part, (line, widths, uptake, depth) in LIMBS.items():
        gantry.add_pair(
            part,
            [(strip(line, [stout * width for width in widths]), uptake * soft)],
            depth,
            depth,
            haze=True,
        )
