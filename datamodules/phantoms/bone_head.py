"""Skull, face and neck of phantom bone scans."""

import numpy as np

from datamodules.phantoms.bone_gantry import Gantry
from datamodules.phantoms.bone_outlines import ellipse, strip


def draw_head(gantry: Gantry) -> None:
    """Draw skull, facial bones, jaw and cervical vertebrae.

    The skull's rim is brighter than its middle, because it is seen edge-on.
    """
    axial = gantry.patient.axial
    vault = ellipse(0, 9.6, 7.4, 9.4)
    gantry.add("head", [(vault, 0.36 * axial)], 8, 8)
    gantry.add(
        "head",
        [
            (
                np.concatenate(
                    [
                        vault,
                        vault[:1],
                        ellipse(0, 9.6, 6.0, 7.8)[::-1],
                        ellipse(0, 9.6, 6.0, 7.8)[-1:],
                    ]
                ),
                0.45 * axial,
            )
        ],
        6,
        6,
    )
    _draw_face(gantry, axial)
    gantry.add("head", [(ellipse(0, 16, 4.8, 2.2), 0.3 * axial)], 13, 3)  # occiput and base
    gantry.add("trunk", [(strip([(0, 17), (0, 28)], [3.4, 4.2]), 0.7 * axial)], 8, 4.5)
    gantry.add(
        "trunk",
        [(strip([(-1.6, y), (1.6, y)], 0.9), 0.25 * axial) for y in np.arange(18.5, 28, 1.5)],
        7,
        4,
    )
    gantry.add(
        "trunk", [(strip([(0, 22.5), (0, 29)], [5.5, 4.0]), 0.2 * axial)], 1.5, 9
    )  # larynx and thyroid
    angle = np.linspace(-2.8, -0.35, 6)
    gantry.add_sites(
        "skull",
        "head",
        [(6.2 * np.cos(a), 9.6 + 8.0 * np.sin(a)) for a in angle if np.cos(a) > 0.1],
        0.9,
        2.4,
        (6, 6),
    )
    gantry.add_sites("skull", "head", [(3.0, 7.5), (2.5, 12.5)], 0.5, 3.0, (13, 4))
    gantry.add_sites("cervical spine", "trunk", [(0, 21.5), (0, 25.5)], 0, 3.2, (6, 5))
    gantry.add_sites("jaw", "head", [(3.8, 19.5), (1.8, 18.0)], 0.9, 1.6, (2, 10))


def _draw_face(gantry: Gantry, axial: float) -> None:
    gantry.add(
        "head",
        [(ellipse(0, 15.0, 5.6, 4.6), 0.16 * axial), (ellipse(0, 15.4, 1.9, 3.0), 0.4 * axial)],
        2.5,
        14,
    )
    gantry.add(
        "head", [(ellipse(side * 3.1, 16.2, 1.6, 1.3), 0.26 * axial) for side in (-1, 1)], 2, 14
    )  # cheeks
    rims = [(ellipse(side * 3.2, 12.7, 2.6, 2.2), 0.34 * axial) for side in (-1, 1)]
    sockets = [(ellipse(side * 3.2, 12.8, 1.8, 1.5), 0.0) for side in (-1, 1)]
    gantry.add("head", [*rims, *sockets], 2, 15)
    jaw = [
        (5.6, 14.5),
        (5.2, 18.2),
        (3.6, 20.8),
        (0, 22.0),
        (-3.6, 20.8),
        (-5.2, 18.2),
        (-5.6, 14.5),
    ]
    gantry.add("head", [(strip(jaw, 1.4), 0.36 * axial)], 4, 9)
    gantry.add(
        "head",
        [
            (
                strip([(2.8, 18.0), (1.6, 19.0), (0, 19.4), (-1.6, 19.0), (-2.8, 18.0)], 1.2),
                0.34 * axial,
            )
        ],
        2,
        14,
    )  # teeth
