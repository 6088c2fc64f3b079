"""Collapse of one lung of a phantom chest: pleural air, visceral pleura and remaining lung."""

from dataclasses import dataclass

import cv2
import numpy as np

from datamodules.phantoms.chest_organs import Organs
from datamodules.phantoms.chest_shading import soften

FEWEST = 6  # pixels of a lesion, so that a small picture of a small one still shows it
ANGLES = np.linspace(
    -0.9, np.pi, 96
)  # around the hilum: 0 is up, pi/2 to the patient's side, pi down
# range of the air's middle angle, its spread in radians, and its probability: apical, lateral, all
# around, and deep in the costophrenic sulcus of a supine patient
PLACES = (
    (-0.1, 0.6, 0.45, 0.50),
    (0.9, 1.6, 0.5, 0.22),
    (0.5, 1.2, 1.1, 0.16),
    (2.0, 2.4, 0.32, 0.12),
)


@dataclass(frozen=True)
class Collapse:
    """A lung that has collapsed away from the chest wall.

    Attributes:
        air: Float `height x width`, 0..1, pleural air.
        line: Float `height x width`, 0..1, the visceral pleura seen edge-on.
        lung: Float `height x width`, 0..1, what is left of this side's lung.
        share: Of the lung's area that is now pleural air.
    """

    air: np.ndarray
    line: np.ndarray
    lung: np.ndarray
    share: float


def collapsed(
    chest: Organs, random: np.random.Generator, field: np.ndarray, side: int, area: float
) -> Collapse:
    """Collapse a lung towards its hilum until the air beside it covers `area` of the image.

    `area` counts as at least 6 pixels; the lung falls at most 80 % of the way to its hilum.

    Args:
        chest: Whose lung falls.
        random: Source of the place and the shape.
        field: Bool `height x width`, where this lung is seen.
        side: -1 or 1, which of the SIDES it is.
        area: As a share of the image.
    """
    x, y = side * (chest.patient.mediastinum + 0.4), chest.hilum()
    places = np.flatnonzero(field)
    radius, angle = cv2.cartToPolar(y - chest.y.flat[places], side * (chest.x.flat[places] - x))
    radius, angle = radius.ravel(), (angle.ravel() + np.pi / 2) % (2 * np.pi) - np.pi / 2
    wall, shape = _wall(radius, angle), _Shape.drawn(random, area)
    wanted, low, high = max(area * field.size, FEWEST), 0.0, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        seen = np.count_nonzero(
            radius > np.interp(angle, ANGLES, _pleura(wall, shape.fallen(middle)))
        )
        low, high = (middle, high) if seen < wanted else (low, middle)
    pleura = _pleura(wall, shape.fallen(high))
    air = np.zeros(chest.shape, np.float32)
    beyond = (radius - np.interp(angle, ANGLES, pleura)) * chest.scale
    air.flat[places] = np.clip(beyond + 0.5, 0, 1)
    _drop_crumbs(air)
    bare = wall - pleura > 0.12
    points = np.stack([x + side * np.sin(ANGLES) * pleura, y - np.cos(ANGLES) * pleura], 1)
    runs = [
        points[run]
        for run in np.split(np.arange(len(ANGLES)), np.flatnonzero(np.diff(bare)) + 1)
        if bare[run[0]] and len(run) > 1
    ]
    line = (
        soften(chest.stroke(runs, 0.14), 0.04 * chest.scale) * field if runs else np.zeros_like(air)
    )
    return Collapse(air, line, field * (1 - air), float(np.mean(beyond > 0)))


def _drop_crumbs(air: np.ndarray) -> None:
    """Remove small separate pieces, such as a pixel between heart and diaphragm."""
    _, parts, about, _ = cv2.connectedComponentsWithStats((air > 0.5).astype(np.uint8))
    sizes = about[:, cv2.CC_STAT_AREA]
    air[(sizes < 0.2 * sizes[1:].max(initial=0))[parts]] = 0


@dataclass(frozen=True)
class _Shape:
    """Shape of a collapse around the hilum: middle and spread in radians, and irregularities."""

    middle: float
    spread: float
    squareness: float
    waves: np.ndarray

    @classmethod
    def drawn(cls, random: np.random.Generator, area: float) -> "_Shape":
        """Sample one of the PLACES; a large `area` (share of the image) is seldom basal only."""
        chances = np.array([chance for *_, chance in PLACES]) * (
            1,
            1,
            1 + 60 * area,
            1 / (1 + 200 * area),
        )
        first, last, spread, _ = PLACES[random.choice(len(PLACES), p=chances / chances.sum())]
        waves = np.interp(ANGLES, np.linspace(ANGLES[0], ANGLES[-1], 7), random.normal(0, 0.1, 7))
        return cls(
            random.uniform(first, last),
            spread * random.uniform(0.75, 1.3),
            random.uniform(2, 3),
            waves,
        )

    def fallen(self, progress: float) -> np.ndarray:
        """Return the share of the way to the hilum that the lung has fallen, at each of the ANGLES.

        The further it falls, the more of its circumference falls.

        Args:
            progress: From 0, none, to 1, all that a lung can do.
        """
        bump = np.exp(
            -(
                np.abs((ANGLES - self.middle) / (self.spread * (0.55 + 3 * progress)))
                ** self.squareness
            )
            / 2
        )
        held = np.clip((ANGLES - ANGLES[0]) / 0.5, 0, 1) * np.clip(
            (3.0 - ANGLES) / 0.4, 0, 1
        )  # by the mediastinum, and below by the ligament
        return 0.8 * progress * np.clip(bump * (1 + self.waves), 0, 1) * held


def _wall(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return the distance from hilum to lung border at each of the ANGLES, in cm.

    `radius` and `angle` are those of the lung's pixels.
    """
    bins = np.rint(np.interp(angle, ANGLES, np.arange(len(ANGLES)))).astype(int)
    farthest = np.zeros(len(ANGLES), np.float32)
    np.maximum.at(farthest, bins, radius)
    closed = cv2.dilate(farthest[:, None], np.ones((5, 1), np.uint8))
    return cv2.GaussianBlur(closed, (1, 5), 1.0, borderType=cv2.BORDER_REPLICATE)[:, 0]


def _pleura(wall: np.ndarray, fallen: np.ndarray) -> np.ndarray:
    """Return the distance from hilum to visceral pleura at each of the ANGLES, in cm.

    It is smooth where the pleura has left the wall, and far beyond the wall elsewhere.

    Args:
        wall: Distance to the chest wall at each of the ANGLES, in cm.
        fallen: Share of that distance by which the lung has fallen.
    """
    smooth = cv2.GaussianBlur(
        (wall * (1 - fallen)).astype(np.float32)[:, None],
        (1, 21),
        3.0,
        borderType=cv2.BORDER_REPLICATE,
    )[:, 0]
    free = np.clip(fallen / 0.06, 0, 1)
    pleura = wall * (1 - free) + np.minimum(smooth, wall) * free
    return np.where(fallen > 0.01, pleura, 2 * wall)
