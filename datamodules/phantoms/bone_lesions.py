"""Lesions of phantom bone scans: their sites in the bones, sizes and uptakes."""

from dataclasses import dataclass

import numpy as np

from datamodules.phantoms.bone_gantry import Gantry, Site
from datamodules.phantoms.bone_outlines import Shape, blot

BONES = {
    "rib": 26,
    "thoracic spine": 18,
    "lumbar spine": 16,
    "ilium": 10,
    "sacrum": 5,
    "sternum": 5,
    "scapula": 5,
    "femur": 6,
    "skull": 5,
}
BONES |= {"ischium or pubis": 4, "humerus": 4, "cervical spine": 3, "clavicle": 2, "tibia": 1}
NUMBER = (0.26, 0.2, 0.16, 0.12, 0.09, 0.07, 0.06, 0.04)  # chances of 1 to 8 lesions
APART = 3.5  # cm between the middles of two lesions of a patient at least


@dataclass(frozen=True)
class Lesions:
    """Parameters shared by all lesions.

    Attributes:
        uptake: Factor of the uptake; 1 ranges from subtle to hot, as in real scans.
        extent: Factor of the diameters; 1 for about 1.5 to 6.5 cm.
    """

    uptake: float = 1.0
    extent: float = 1.0


def draw_lesions(gantry: Gantry, random: np.random.Generator, like: Lesions) -> list[np.ndarray]:
    """Draw a patient's lesions; the bones must be drawn already.

    Args:
        gantry: The patient.
        random: Source of everything random.
        like: How hot and how large they are.

    Returns:
        What both heads see of each lesion, float32 `2 x height x width`.
    """
    lesions: list[np.ndarray] = []
    taken: list[Site] = []
    for _ in range(int(random.choice(len(NUMBER), p=NUMBER)) + 1):
        site = _site(gantry, random, taken)
        taken.append(site)
        lesions.append(gantry.seen(site.part, _shapes(random, site, like), site.front, site.back))
    return lesions


def _site(gantry: Gantry, random: np.random.Generator, taken: list[Site]) -> Site:
    """Sample a bone by BONES, and a site in it that is apart from other lesions if possible."""
    names, weights = list(BONES), np.array(list(BONES.values()))
    bone = random.choice(names, p=weights / weights.sum())
    sites = [site for site in gantry.sites if site.bone == bone]
    free = [
        site
        for site in sites
        if all(np.hypot(site.x - other.x, site.y - other.y) > APART for other in taken)
    ] or sites
    return free[random.integers(len(free))]


def _shapes(random: np.random.Generator, site: Site, like: Lesions) -> list[Shape]:
    """Return an irregular spot along the bone with one to three cores.

    A thick lesion is brighter than a thin one of the same tissue.
    """
    along = float(np.clip(random.lognormal(np.log(1.15), 0.42), 0.55, 2.6))
    across = min(along * random.uniform(0.55, 1.0), 0.6 * site.width)
    level = like.uptake * across**0.5 * float(np.clip(random.lognormal(np.log(1.1), 0.5), 0.4, 3.0))
    along, across = like.extent * along, like.extent * across
    x, y = np.array([site.x, site.y]) + random.normal(0, 0.12, 2) * site.width
    cos, sin = np.cos(site.turn), np.sin(site.turn)
    shapes = [(blot(random, (x, y), along, across, site.turn), 0.7 * level)]
    for _ in range(random.integers(1, 4)):
        u, v = random.normal(0, 0.35, 2) * (along, across)
        core = blot(
            random,
            (x + cos * u - sin * v, y + sin * u + cos * v),
            0.5 * along,
            0.5 * across,
            site.turn,
        )
        shapes.append((core, level * random.uniform(0.8, 1.2)))
    return shapes
