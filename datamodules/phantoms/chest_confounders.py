"""Confounders of pneumothorax: what resembles it or comes with it.

They lie on radiographs without a pneumothorax too.
"""

import numpy as np

from datamodules.phantoms.chest_canvas import SIDES
from datamodules.phantoms.chest_shading import inside, soften
from datamodules.phantoms.chest_shadows import Chest, curve


def confounding(chest: Chest, side: int, contrast: float = 1.0) -> np.ndarray:
    """Draw the confounders over the lungs of one image.

    Args:
        chest: Of the image; its `random` is the source of everything random.
        side: -1 or 1, the side of a pneumothorax, where a chest tube is a little likelier; 0 for
            none.
        contrast: Of what resembles a pneumothorax (skin folds, shoulder blades, clothes, hair): the
            same as that of the pneumothoraces, or else these would no longer be mistaken for each
            other. Tubes and wires stay as they are.

    Returns:
        float32 `height x width`, absorption as a share of the torso's own.
    """
    random = chest.random
    drawn = np.zeros(chest.shape, np.float32)
    if random.random() < 0.22:
        drawn += chest.device()
    for _ in range(random.choice(3, p=[0.55, 0.3, 0.15])):
        drawn += contrast * _skin_fold(chest)
    if random.random() < 0.3:
        drawn += contrast * _scapula(chest, int(random.choice(SIDES)))
    if random.random() < 0.2:
        drawn += contrast * _cloth(chest)
    if random.random() < 0.12:
        drawn += contrast * _hair(chest, int(random.choice(SIDES)))
    if random.random() < (
        0.24 if side else 0.16
    ):  # last, so that all else is the same with and without a pneumothorax
        drawn += _chest_tube(
            chest, side if side and random.random() < 0.7 else int(random.choice(SIDES))
        )
    return drawn


def _chest_tube(chest: Chest, side: int) -> np.ndarray:
    """Draw a chest tube to apex or base: two walls, and a stripe broken at the side hole."""
    between, patient = chest.random.uniform, chest.patient
    entry = between(0.5, 7)
    tip = (
        patient.mediastinum + between(1.5, 4.5),
        chest.top + between(1, 5) if chest.random.random() < 0.7 else chest.bottom - between(4, 7),
    )
    knots = [
        (patient.half_width + 5, entry + between(0, 4)),
        (patient.half_width - 0.5, entry),
        (patient.half_width - between(1, 4), 0),
        tip,
    ]
    path = curve(knots) * (side, 1)
    width = between(0.5, 0.85)
    outer, lumen = chest.stroke([path], width), chest.stroke([path], 0.6 * width)
    hole = between(12, 17)
    stripe = chest.stroke([path[: int(hole)], path[int(hole) + 2 :]], 0.16)
    return between(0.5, 1.1) * soften(
        0.14 * outer - 0.06 * lumen + 0.2 * stripe, 0.04 * chest.scale
    )


def _skin_fold(chest: Chest) -> np.ndarray:
    """Draw a skin fold under the back: brightest at its sharp lateral edge, fading medially.

    The lung continues beyond the edge.
    """
    between = chest.random.uniform
    side, height = int(chest.random.choice(SIDES)), between(0.05, 0.85)
    x = side * (chest.wall(height) - between(0.4, 4.5))
    y = chest.top + height * (chest.bottom - chest.top)
    bow, tilt = (
        between(11, 50),
        side * (np.pi / 2 - 1.3 * (1 - height) ** 2 + chest.random.normal(0, 0.25)),
    )
    toward = np.sin(tilt), -np.cos(tilt)  # from the arc's middle to the place
    dx, dy = chest.x - np.float32(x - bow * toward[0]), chest.y - np.float32(y - bow * toward[1])
    depth = bow - np.sqrt(dx * dx + dy * dy)
    along = (chest.x - x) * toward[1] - (chest.y - y) * toward[0]
    reach = min(between(4, 13), 0.6 * bow)
    ends = np.exp(-(np.abs((along - between(-1, 1)) / reach) ** 4)) * (
        dx * toward[0] + dy * toward[1] > 0
    )
    band = np.exp(-np.maximum(depth, 0) / between(0.35, 1.6)) - 0.15 * np.exp(
        -np.abs(depth + 0.15) / 0.2
    )
    return (between(0.1, 0.26) * ends * band * inside(1 - depth, between(0.06, 0.14))).astype(
        np.float32
    )


def _scapula(chest: Chest, side: int) -> np.ndarray:
    """Draw a shoulder blade turned in over the lung.

    Its medial border is a bright line; beyond it everything is denser.
    """
    between, edge = chest.random.uniform, chest.patient.half_width + 2
    medial = edge - between(4.5, 7.5)
    border = [
        (medial + 0.8, chest.top + between(2.5, 4)),
        (medial, chest.top + 7),
        (medial + between(0.5, 2), chest.top + between(11, 14)),
    ]
    path = curve(border) * (side, 1)
    blade = np.concatenate(
        [path, np.array([(edge + 1, chest.top + 8), (edge, chest.top + 2)]) * (side, 1)]
    )
    return soften(
        between(0.03, 0.08) * chest.fill(blade) + between(0.03, 0.1) * chest.stroke([path], 0.2),
        0.05 * chest.scale,
    )


def _cloth(chest: Chest) -> np.ndarray:
    """Draw the edge of a gown or sheet across the chest, inside and outside the lungs."""
    side, between = int(chest.random.choice(SIDES)), chest.random.uniform
    xs = between((3, 2, 3, 4), (14, 12, 12, 16))
    path = curve(np.stack([side * xs, between((-22, -9, 0, 24), (-22, 0, 9, 24))], 1))
    sheet = np.concatenate([path, np.array([(side * 40, 24), (side * 40, -22)])])
    return soften(
        between(0.015, 0.05) * chest.fill(sheet) + between(0.0, 0.06) * chest.stroke([path], 0.2),
        0.05 * chest.scale,
    )


def _hair(chest: Chest, side: int) -> np.ndarray:
    """Draw strands of hair that hang from the neck over a lung's apex."""
    random = chest.random
    root, tip = (
        np.array([side * random.uniform(2, 4), chest.top - 7]),
        np.array([side * random.uniform(4, 8), chest.top + random.uniform(2, 7)]),
    )
    strands = [
        curve(root + (tip - root) * np.linspace(0, 1, 4)[:, None] + random.normal(0, 0.7, (4, 2)))
        for _ in range(random.integers(3, 9))
    ]
    return random.uniform(0.04, 0.1) * chest.stroke(strands, 0.12)
