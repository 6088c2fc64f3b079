"""Spine, ribs, sternum, shoulder girdle and pelvis of phantom bone scans."""

import numpy as np

from datamodules.phantoms.bone_gantry import Gantry
from datamodules.phantoms.bone_outlines import Outline, ellipse, strip

THORACIC = 28.0 + np.array(
    [0.7, 2.7, 4.8, 7.0, 9.3, 11.6, 14.0, 16.5, 19.1, 21.8, 24.6, 27.5]
)  # y of the twelve vertebrae
LUMBAR = 58.7 + 3.8 * np.arange(5)
RIB_REACH = (
    6.0,
    8.8,
    11.0,
    12.3,
    13.0,
    13.6,
    14.0,
    14.1,
    13.8,
    13.2,
    12.4,
    9.0,
)  # x of each rib's outermost point
RIB_ANGLES = np.linspace(0, 1, 15)  # from the spine to the front end
RIB_PIECES = 7


def draw_trunk(gantry: Gantry) -> None:
    """Draw all bones of the trunk.

    Vertebrae are brightest from behind; the sternum is seen mainly from the front.
    """
    _draw_spine(gantry, gantry.patient.axial)
    _draw_ribs(gantry, gantry.patient.axial)
    _draw_sternum(gantry, gantry.patient.axial)
    _draw_girdle(gantry, gantry.patient.axial, gantry.patient.joints)
    _draw_pelvis(gantry, gantry.patient.axial)


def _draw_spine(gantry: Gantry, axial: float) -> None:
    ramp = 1 + gantry.random.uniform(-0.05, 0.3) * np.linspace(
        0, 1, 17
    )  # the lumbar vertebrae take up more in many
    for name, places, depth, width, height in (
        ("thoracic spine", THORACIC, (12.5, 5.0), 3.3, 2.0),
        ("lumbar spine", LUMBAR, (12.5, 5.5), 4.4, 3.2),
    ):
        size = np.linspace(0.8, 1, len(places)) if name[0] == "t" else np.ones(5)
        uptake = 1.15 * axial * ramp[: len(places)] * gantry.random.lognormal(0, 0.04, len(places))
        ramp = ramp[len(places) :]
        gantry.add(
            "trunk",
            [
                (
                    strip([(0, places[0] - height / 2), (0, places[-1] + height / 2)], width * 0.8),
                    0.75 * axial,
                )
            ],
            *depth,
        )
        bodies = [
            strip([(0, y - height * s / 2), (0, y + height * s / 2)], width * s)
            for y, s in zip(places, size, strict=True)
        ]
        gantry.add("trunk", list(zip(bodies, 0.6 * uptake, strict=True)), *depth)
        gantry.add(
            "trunk",
            [(ellipse(0, y + 0.4, 0.8, 1.0), u) for y, u in zip(places, 0.3 * uptake, strict=True)],
            depth[0] + 3,
            depth[1] - 2,
        )
        facets = [
            (ellipse(width * 0.55, y - height * 0.55, 0.9, 0.7), u)
            for y, u in zip(places, 0.3 * uptake, strict=True)
        ]
        gantry.add_pair("trunk", facets, depth[0] + 2, depth[1] - 1)
        gantry.add_sites(name, "trunk", [(0, y) for y in places], 0, width, depth)
        gantry.add_sites(
            name,
            "trunk",
            [(width * 0.35, y) for y in places],
            1.2,
            width * 0.7,
            (depth[0] + 1, depth[1] - 1),
        )
    gantry.add_sites(
        "facet joint", "trunk", [(2.3, y + 1.7) for y in LUMBAR[2:]], 1.3, 1.2, (14, 4.5)
    )


def rib(number: int) -> Outline:
    """Return the centre line of a left rib from its vertebra to its front end, `15 x 2`.

    The last two ribs are short.
    """
    reach, top = RIB_REACH[number], THORACIC[number] - 0.6
    angle = RIB_ANGLES * (2.55 if number < 10 else 1.2)
    drop = 4.5 + 0.9 * min(number, 9)
    x = 1.8 + (reach - 1.8) * np.sin(angle) ** 0.85
    return np.stack(
        [x, top + drop * (1 - np.cos(angle)) / 1.83 - 0.8 * np.sin(angle) * (1 - RIB_ANGLES) * 2], 1
    )


def _draw_ribs(gantry: Gantry, axial: float) -> None:
    """Draw the ribs piece by piece, because the depth of the tissue changes along them."""
    lines, uptakes = (
        [rib(number) for number in range(12)],
        axial * gantry.random.lognormal(0, 0.06, 12),
    )
    for piece in range(RIB_PIECES):
        share = (piece + 0.5) / RIB_PIECES
        depth = (2.0 + 17 * (1 - share) ** 1.3, 2.0 + 17 * share**1.3)
        part = slice(2 * piece, 2 * piece + 3)
        level = 0.62 - 0.06 * share
        gantry.add_pair(
            "trunk",
            [(strip(line[part], 1.05), level * u) for line, u in zip(lines, uptakes, strict=True)],
            *depth,
            uneven=0.03,
        )
        for line in lines[1:11]:
            (x, y), step = line[2 * piece + 1], line[2 * piece + 2] - line[2 * piece]
            gantry.add_sites(
                "rib",
                "trunk",
                [(float(x), float(y))],
                float(np.arctan2(step[1], step[0])),
                1.3,
                depth,
            )


def _draw_sternum(gantry: Gantry, axial: float) -> None:
    manubrium = np.array(
        [(-3.2, 33.0), (3.2, 33.0), (2.6, 35.2), (1.5, 37.6), (-1.5, 37.6), (-2.6, 35.2)]
    )
    corpus = strip([(0, 37.9), (0, 43), (0, 48.5), (0, 51.0)], [2.6, 3.0, 3.0, 1.0])
    gantry.add("trunk", [(manubrium, 0.7 * axial), (corpus, 0.6 * axial)], 2, 18)
    gantry.add_pair(
        "trunk", [(ellipse(2.7, 33.0, 1.2, 1.0), 0.35 * gantry.patient.joints)], 2, 17, uneven=0.15
    )  # sternoclavicular joint
    gantry.add_sites(
        "sternum", "trunk", [(0, y) for y in (34.8, 40, 43, 46, 48)], 1.57, 2.8, (2, 18)
    )
    gantry.add_sites("sternoclavicular joint", "trunk", [(2.7, 33.0)], 0, 1.6, (2, 17))


def _draw_girdle(gantry: Gantry, axial: float, joints: float) -> None:
    """Draw clavicles in front, scapulae behind, and the shoulders between them."""
    gantry.add_pair(
        "trunk",
        [(strip([(2.5, 32.8), (6.5, 31.2), (11, 30.9), (15.5, 30.4)], 1.2), 0.36 * axial)],
        2.5,
        10,
    )
    blade = np.array([(13.6, 33.2), (8.6, 34.0), (7.2, 37), (8.0, 46.5), (9.4, 46.3), (13.2, 38)])
    gantry.add_pair("trunk", [(blade, 0.16 * axial)], 16, 2.5)
    lateral, medial = (
        strip([(8.8, 46.5), (11.4, 41.5), (13.8, 36.4)], [1.6, 1.3, 1.8]),
        strip([(8.4, 46), (7.4, 37.5), (8.6, 33.8)], 0.9),
    )
    spine = strip([(8.2, 36.4), (12.5, 33.6), (16.3, 30.9)], [0.9, 1.2, 2.0])
    gantry.add_pair(
        "trunk", [(lateral, 0.4 * axial), (medial, 0.3 * axial), (spine, 0.42 * axial)], 14, 2.5
    )
    gantry.add_pair("trunk", [(ellipse(14.2, 34.6, 1.3, 2.3), 0.5 * joints)], 8, 6)
    gantry.add_pair(
        "trunk",
        [
            (ellipse(16.0, 31.0, 2.0, 1.0), 0.5 * joints),
            (ellipse(13.2, 33.0, 1.0, 1.0), 0.4 * joints),
        ],
        4,
        5,
        uneven=0.12,
    )
    gantry.add_sites(
        "scapula", "trunk", [(9.0, 45.0), (11.6, 41.0), (13.4, 37.0)], -1.1, 2.0, (14, 2.5)
    )
    gantry.add_sites("clavicle", "trunk", [(7, 31.2), (11, 30.9)], -0.1, 1.6, (2.5, 10))
    gantry.add_sites("shoulder", "trunk", [(16.0, 31.2), (15.2, 33.4)], 0, 2.4, (4, 5))


def _draw_pelvis(gantry: Gantry, axial: float) -> None:
    sacrum = np.array(
        [
            (-4.0, 75.3),
            (4.0, 75.3),
            (3.8, 79),
            (2.2, 84.5),
            (0.8, 88.5),
            (-0.8, 88.5),
            (-2.2, 84.5),
            (-3.8, 79),
        ]
    )
    gantry.add("trunk", [(sacrum, 0.85 * axial)], 14.5, 4.5)
    crest = [(4.6, 74.6), (7.2, 72.2), (10.6, 72.0), (13.2, 74.6), (13.7, 77.6)]
    wing = np.array([(4.2, 79.5), *crest, (11.6, 82.5), (10.8, 87), (7.2, 86.5), (5.6, 83)])
    gantry.add_pair("trunk", [(wing, 0.26 * axial)], 9, 8)
    gantry.add_pair(
        "trunk",
        [(strip([(5.2, 73.4), (7.6, 72.4), (10.6, 72.4), (12.8, 74.8)], 1.3), 0.36 * axial)],
        9,
        7,
    )
    gantry.add_pair(
        "trunk",
        [
            (
                strip(
                    [(13.0, 75.2), (13.0, 78.4), (11.0, 82.5), (9.2, 86.4)], [1.4, 1.9, 1.9, 2.4]
                ),
                0.66 * axial,
            )
        ],
        4,
        14,
    )
    gantry.add_pair(
        "trunk",
        [(strip([(5.3, 74.8), (4.2, 78.5), (4.6, 82.5)], [2.2, 2.8, 2.0]), 1.05 * axial)],
        15,
        5,
        uneven=0.08,
    )  # sacroiliac
    gantry.add_pair(
        "trunk",
        [
            (
                strip([(4.8, 82.5), (6.6, 85.6), (8.2, 89.5), (6.6, 94.5)], [2.0, 2.2, 3.0, 2.8]),
                0.6 * axial,
            )
        ],
        13,
        7,
    )
    gantry.add_pair(
        "trunk",
        [(strip([(8.4, 88.6), (5.0, 91.2), (1.3, 92.4)], [2.4, 1.5, 2.2]), 0.45 * axial)],
        4,
        14,
    )
    gantry.add_pair(
        "trunk",
        [(strip([(1.2, 93.4), (3.6, 96.4), (6.0, 96.2)], [1.4, 1.4, 2.2]), 0.42 * axial)],
        7,
        10,
    )
    gantry.add_sites("sacrum", "trunk", [(0, 80), (0, 84), (2.2, 78.5)], 0.4, 3.4, (14.5, 4.5))
    gantry.add_sites(
        "ilium", "trunk", [(12.8, 77.5), (11.0, 82.5), (9.8, 73.0)], -1.0, 2.4, (4, 13)
    )
    gantry.add_sites("ilium", "trunk", [(5.6, 75.5), (5.4, 83.4), (7.6, 78.0)], 1.3, 2.6, (14, 5))
    gantry.add_sites(
        "ischium or pubis", "trunk", [(6.4, 94.8), (7.2, 88.5), (3.8, 91.8)], 1.2, 2.2, (9, 9)
    )
