"""Hot spots of phantom bone scans that are no lesions.

These are urine, kidneys, the injection site and worn joints.
"""

import numpy as np

from datamodules.phantoms.bone_gantry import Gantry
from datamodules.phantoms.bone_outlines import Shape, blot, ellipse

WORN = {
    "knee": 5,
    "shoulder": 4,
    "foot": 4,
    "jaw": 4,
    "facet joint": 3,
    "wrist": 2,
    "ankle": 2,
    "sternoclavicular joint": 2,
    "elbow": 1,
    "hip": 1,
}


def draw_hot_spots(
    gantry: Gantry, random: np.random.Generator, urine: float = 1.0
) -> list[np.ndarray]:
    """Draw a patient's hot spots; the bones must be drawn already.

    Args:
        gantry: The patient.
        random: Source of everything random.
        urine: Factor of the tracer in bladder, kidneys and spilt urine, and at the injection site;
            1 as in real scans. Worn joints stay as they are.

    Returns:
        What both heads see of each spot, float32 `2 x height x width`.
    """
    spots, worn = (
        [_bladder(gantry, random), *_kidneys(gantry, random)],
        _worn_joints(gantry, random),
    )
    if random.random() < 0.2:
        spots.append(_injection(gantry, random))
    for _ in range(random.choice([0, 1, 2, 3], p=[0.62, 0.2, 0.12, 0.06])):
        spots.append(_urine(gantry, random))
    if random.random() < 0.04:  # a bag or a bottle beside the thigh
        place = (random.uniform(-14, 14), random.uniform(101, 125))
        spots.append(
            gantry.seen(
                "trunk",
                [(blot(random, place, random.uniform(1.5, 3.5), 1.6, 0.3), random.uniform(8, 40))],
                0,
                16,
            )
        )
    return [*(urine * spot for spot in spots), *worn]


def _bladder(gantry: Gantry, random: np.random.Generator) -> np.ndarray:
    middle = (random.normal(0, 0.6), 89 + random.normal(0, 0.7))
    if random.random() < 0.15:  # a catheter has emptied it
        return gantry.seen(
            "trunk", [(blot(random, middle, 1.0, 0.8), random.uniform(0.8, 3))], 6, 14
        )
    across, down = random.uniform(1.6, 4.4), random.uniform(1.2, 3.2)
    uptake = float(np.clip(random.lognormal(np.log(3.2), 0.85), 0.7, 30))
    shapes: list[Shape] = [
        (ellipse(*middle, across, down), 0.6 * uptake),
        (ellipse(*middle, 0.7 * across, 0.7 * down), uptake),
    ]
    return gantry.seen("trunk", shapes, 5.5, 14.5)


def _kidneys(gantry: Gantry, random: np.random.Generator) -> list[np.ndarray]:
    uptake, spots = random.lognormal(np.log(0.75), 0.45), []
    for side, y in ((-1, 60.3), (1, 59.2)):  # the right one lies lower
        shapes = [
            (ellipse(side * 5.9, y, 2.4, 4.9, -side * 0.22), uptake * random.lognormal(0, 0.12))
        ]
        if random.random() < 0.2:  # urine in the pelvis of the kidney
            shapes.append((blot(random, (side * 5.0, y), 0.9, 1.5), uptake * random.uniform(2, 6)))
        spots.append(gantry.seen("trunk", shapes, 16, 6))
    return spots


def _injection(gantry: Gantry, random: np.random.Generator) -> np.ndarray:
    """Draw the injection site at the elbow, wrist or back of the hand of one arm."""
    side, (x, y) = (
        random.choice([-1, 1]),
        ((20.2, 58.5), (21.6, 83.0), (22.4, 91.0))[random.choice(3, p=[0.5, 0.2, 0.3])],
    )
    size, uptake = random.uniform(0.4, 1.3), random.lognormal(np.log(5), 0.8)
    vein = (
        [(blot(random, (side * x, y - size * 2), 0.4, size * 3, 0.1), 0.2 * uptake)]
        if random.random() < 0.3
        else []
    )
    part = "forearm_left" if side > 0 else "forearm_right"
    return gantry.seen(
        part,
        [*vein, (blot(random, (side * x, y), size, size * random.uniform(1, 1.8)), uptake)],
        1,
        4,
    )


def _urine(gantry: Gantry, random: np.random.Generator) -> np.ndarray:
    """Draw urine in the urethra, or on the skin or clothes of the thighs."""
    uptake = random.lognormal(np.log(1.5), 0.7)
    if random.random() < 0.5:
        place = (random.normal(0, 0.5), 98.0 if gantry.patient.male else 96.0)
        return gantry.seen(
            "trunk",
            [(blot(random, place, 0.6, random.uniform(0.6, 1.8), random.normal(0, 0.3)), uptake)],
            3,
            14,
        )
    place = (random.normal(0, 5), random.uniform(97, 114))
    return gantry.seen(
        "trunk",
        [
            (
                blot(
                    random,
                    place,
                    random.uniform(0.4, 1.5),
                    random.uniform(0.4, 1.2),
                    random.normal(),
                    0.35,
                ),
                uptake,
            )
        ],
        0.5,
        14,
    )


def _worn_joints(gantry: Gantry, random: np.random.Generator) -> list[np.ndarray]:
    """Draw arthrosis and inflamed teeth, many of them in some patients."""
    names, weights = list(WORN), np.array(list(WORN.values()))
    spots = []
    for name in random.choice(
        names, size=random.poisson(random.gamma(2, 1.2)), p=weights / weights.sum()
    ):
        sites = [site for site in gantry.sites if site.bone == name]
        site = sites[random.integers(len(sites))]
        size = site.width * random.uniform(0.35, 0.7)
        shape = blot(random, (site.x, site.y), size, size * random.uniform(0.5, 1.0), site.turn)
        spots.append(
            gantry.seen(
                site.part, [(shape, random.lognormal(np.log(0.55), 0.55))], site.front, site.back
            )
        )
    return spots
