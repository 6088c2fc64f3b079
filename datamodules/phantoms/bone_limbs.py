"""Arms and legs of phantom bone scans."""

import numpy as np

from datamodules.phantoms.bone_gantry import Gantry
from datamodules.phantoms.bone_outlines import ellipse, strip


def draw_limbs(gantry: Gantry) -> None:
    """Draw arms beside the body and legs slightly apart; joints are brighter than shafts."""
    limbs, joints = gantry.patient.limbs, gantry.patient.joints
    _draw_arms(gantry, limbs, joints)
    _draw_thighs(gantry, limbs, joints)
    _draw_shins(gantry, limbs, joints)
    _draw_feet(gantry, limbs, joints)


def _draw_arms(gantry: Gantry, limbs: float, joints: float) -> None:
    gantry.add_pair("arm", [(ellipse(17.0, 33.2, 2.5, 2.6), 0.6 * joints)], 5, 5.5, uneven=0.08)
    gantry.add_pair(
        "arm",
        [
            (
                strip([(17.2, 33), (17.7, 38), (19.2, 50), (20.3, 58)], [3.4, 2.2, 1.9, 2.4]),
                0.33 * limbs,
            )
        ],
        5,
        5,
    )
    elbow = [
        (ellipse(20.5, 59.9, 2.5, 2.6), 0.3 * joints),
        (ellipse(20.5, 59.8, 1.8, 1.4), 0.5 * joints),
    ]
    gantry.add_pair("forearm", elbow, 3.5, 3.5, uneven=0.15)
    for inner, outer in ((20.0, 21.2), (21.4, 22.6)):  # ulna and radius
        gantry.add_pair(
            "forearm",
            [
                (
                    strip(
                        [(inner, 60.5), ((inner + outer) / 2 + 0.1, 73), (outer, 83.5)],
                        [1.5, 1.1, 1.4],
                    ),
                    0.26 * limbs,
                )
            ],
            3,
            3,
        )
    wrist = [
        (ellipse(22.0, 84.5, 2.1, 1.5), 0.36 * joints),
        (ellipse(22.2, 87.0, 1.8, 1.6), 0.42 * joints),
    ]
    gantry.add_pair("forearm", wrist, 2.5, 2.5, uneven=0.12)
    fingers = [
        strip(
            [
                (21.2 + 0.75 * i, 88),
                (20.9 + 1.1 * i, 94),
                (21.0 + 0.95 * i, 99.5 - 0.6 * abs(i - 1.6)),
            ],
            [0.8, 0.75, 0.5],
        )
        for i in range(4)
    ]
    palm = strip([(22.2, 87), (22.6, 94)], [3.0, 3.8])
    thumb = strip([(20.8, 87), (19.4, 90), (19.0, 93.5)], 0.8)
    gantry.add_pair(
        "forearm",
        [(palm, 0.2 * limbs), *((finger, 0.34 * limbs) for finger in [*fingers, thumb])],
        2,
        2,
        uneven=0.1,
    )
    gantry.add_sites(
        "humerus", "arm", [(17.1, 35), (18.0, 41), (18.9, 48), (19.7, 54)], 1.45, 2.4, (5, 5)
    )
    gantry.add_sites("shoulder", "arm", [(17.2, 32.6)], 0, 2.4, (5, 5))
    gantry.add_sites("elbow", "forearm", [(20.5, 60.0)], 0, 2.2, (3.5, 3.5))
    gantry.add_sites("wrist", "forearm", [(22.1, 86.0), (20.2, 88.5)], 0, 1.6, (2, 2))


def _draw_thighs(gantry: Gantry, limbs: float, joints: float) -> None:
    gantry.add_pair(
        "thigh",
        [
            (ellipse(9.0, 90.0, 2.5, 2.5), 0.5 * joints),
            (strip([(9, 90), (12.5, 92.5)], [3.4, 3.4]), 0.5 * limbs),
        ],
        7,
        9,
    )
    gantry.add_pair(
        "thigh",
        [(strip([(13.4, 90.2), (13.2, 93.5), (12.2, 97.5)], [2.4, 3.6, 3.0]), 0.55 * limbs)],
        8,
        8,
    )
    gantry.add_pair(
        "thigh",
        [
            (
                strip([(12.4, 95), (11.6, 106), (10.2, 119), (9.5, 128)], [3.1, 2.5, 2.4, 5.0]),
                0.46 * limbs,
            )
        ],
        7,
        7,
    )
    knee = [(ellipse(9.5, 128.2, 3.9, 3.4), 0.46 * joints)]
    knee += [(ellipse(9.5 + x, 128.4, 1.6, 1.9), 0.58 * joints) for x in (-2.1, 2.1)]
    gantry.add_pair("thigh", knee, 5, 5.5, uneven=0.08)
    gantry.add_pair(
        "thigh", [(ellipse(9.5, 127.2, 2.2, 2.3), 0.32 * joints)], 1, 11, uneven=0.2
    )  # patella
    gantry.add_sites(
        "femur",
        "thigh",
        [(12.8, 93), (12.2, 99), (11.6, 106), (10.8, 113), (10.1, 120)],
        1.7,
        3.0,
        (7, 7),
    )
    gantry.add_sites("hip", "thigh", [(9.0, 89.0)], 0, 2.6, (7, 9))
    gantry.add_sites("knee", "thigh", [(7.2, 128.6), (11.8, 128.6), (9.5, 127.2)], 0, 2.4, (4, 6))


def _draw_shins(gantry: Gantry, limbs: float, joints: float) -> None:
    plateau = [
        (
            strip([(9.5, 130.8), (9.5, 132.5), (9.4, 135), (9.3, 139)], [6.8, 6.8, 4.6, 2.6]),
            0.5 * joints,
        )
    ]
    gantry.add_pair("shin", plateau, 5, 5, uneven=0.08)
    gantry.add_pair(
        "shin",
        [
            (
                strip([(9.4, 133), (9.3, 140), (9.2, 150), (9.2, 163)], [4.2, 2.8, 2.2, 2.6]),
                0.42 * limbs,
            )
        ],
        3,
        7,
    )
    gantry.add_pair(
        "shin",
        [(strip([(12.4, 134), (12.0, 150), (11.8, 166)], [1.7, 1.0, 1.5]), 0.26 * limbs)],
        5,
        5,
    )
    gantry.add_pair(
        "shin",
        [
            (ellipse(9.6, 165.2, 2.5, 2.3), 0.45 * joints),
            (ellipse(11.9, 166.2, 1.0, 1.6), 0.4 * joints),
        ],
        3,
        3.5,
        uneven=0.12,
    )
    gantry.add_sites("tibia", "shin", [(9.4, 139), (9.2, 147), (9.2, 155)], 1.6, 2.4, (3, 7))
    gantry.add_sites("knee", "shin", [(7.4, 132.4), (11.6, 132.4)], 0, 2.2, (5, 5))
    gantry.add_sites("ankle", "shin", [(9.6, 166.4)], 0, 2.4, (3, 3.5))


def _draw_feet(gantry: Gantry, limbs: float, joints: float) -> None:
    """Draw the feet with toes down and outwards, as feet lie on the table."""
    gantry.add_pair(
        "foot",
        [(strip([(9.5, 167), (10.0, 170.5), (11.2, 174)], [4.4, 5.0, 5.6]), 0.42 * joints)],
        2.5,
        4,
        uneven=0.12,
    )
    gantry.add_pair(
        "foot", [(ellipse(9.6, 170.0, 2.2, 2.6), 0.4 * joints)], 5, 1.5, uneven=0.12
    )  # heel
    toes = [
        (strip([(9.4 + 1.2 * i, 173), (9.8 + 1.5 * i, 177.5 - 0.5 * i)], 0.9), 0.32 * limbs)
        for i in np.arange(5)
    ]
    gantry.add_pair("foot", toes, 2, 2, uneven=0.12)
    gantry.add_sites(
        "foot", "foot", [(10.4, 171.5), (10.0, 176.0), (9.6, 169.5)], 0.3, 2.0, (2.5, 3)
    )
