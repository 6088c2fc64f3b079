"""Parts that only some phantom radiographs show: findings, devices, wires and electrodes."""

import numpy as np

from datamodules.phantoms.chest_canvas import SIDES
from datamodules.phantoms.chest_organs import Organs
from datamodules.phantoms.chest_shading import ball, inside


class Chest(Organs):
    """Chest with findings, devices and clutter.

    Layers are float `height x width`, absorption as a share of the torso's own unless stated
    otherwise.
    """

    def opacity(self, air: np.ndarray) -> np.ndarray:
        """Return the share of the air lost to 1 to 3 consolidations.

        They are patchy or lobar, with soft irregular borders, at times with air bronchograms.

        Args:
            air: Float `height x width`, how much of it each pixel's ray crosses, 0..1; the
                consolidations' middles lie where it is over 0.5.
        """
        lost: np.ndarray = np.zeros(self.shape, np.float32)
        for _ in range(self.random.choice([1, 2, 3], p=[0.5, 0.3, 0.2])):
            x, y = self.somewhere(air > 0.5)
            long, turn = (
                min(max(3.5 * self.random.lognormal(0, 0.35), 1.8), 7.0),
                self.random.uniform(0, np.pi),
            )
            distance = (
                self.distance(x, y, long, long * self.random.uniform(0.55, 1), turn)
                + 0.22 * self.noise(2.4)
                + 0.1 * self.noise(1.0)
            )
            patch = inside(distance, self.random.uniform(0.4, 0.9))
            if self.random.random() < 0.3:  # it stops at a fissure
                patch *= inside(
                    1
                    + float(self.random.choice(SIDES))
                    * (self.y - y - self.random.normal(0, 0.8) - 0.15 * (self.x - x)),
                    0.6,
                )
            lost = np.maximum(
                lost, patch * self.random.uniform(0.32, 0.9) * (1 + 0.15 * self.noise(0.5))
            )
        if self.random.random() < 0.4:
            lost *= 1 - 0.5 * self._bronchi()
        return np.clip(lost, 0, 0.95)

    def effusion(self) -> np.ndarray:
        """Return the share of the air lost to fluid in one or both costophrenic angles.

        The upper border of the fluid is a meniscus.
        """
        lost = np.zeros(self.shape, np.float32)
        for side in SIDES if self.random.random() < 0.25 else (int(self.random.choice(SIDES)),):
            depth = np.clip(side * self.x / self.patient.half_width, 0, 1.1)
            level = (
                self.bottom
                - self.random.uniform(2.0, 6.5)
                - 4.0 * (depth - 0.6) * depth
                + 0.15 * self.noise(2.0)
            )
            lost = np.maximum(
                lost,
                self.random.uniform(0.6, 0.95)
                * (side * self.x > 0)
                * inside(1 + level - self.y, self.random.uniform(0.25, 0.5)),
            )
        return lost

    def nodules(self, air: np.ndarray) -> np.ndarray:
        """Draw 1 to 3 round shadows of 5 to 15 mm.

        Args:
            air: Float `height x width`, how much of it each pixel's ray crosses, 0..1; the nodules'
                middles lie where it is over 0.6.
        """
        drawn = np.zeros(self.shape, np.float32)
        for _ in range(self.random.integers(1, 4)):
            x, y = self.somewhere(air > 0.6)
            radius = self.random.uniform(0.25, 0.75)
            drawn += self.random.uniform(0.13, 0.26) * ball(
                self.distance(x, y, radius, radius * self.random.uniform(0.85, 1))
            )
        return drawn

    def device(self) -> np.ndarray:
        """Draw a pacemaker with its lead, a tube, or a central line."""
        side, top, tip = (
            float(self.random.choice(SIDES, p=[0.25, 0.75])),
            self.top,
            self.bottom - self.dome - self.random.uniform(1, 4),
        )
        if self.random.random() < 0.5:
            x, y = side * self.random.uniform(7, 10), top + self.random.uniform(3, 6)
            lead = [
                (x, y),
                (x - side * 3, y - 2.5),
                (-1.5, top + 6),
                (-2, 0),
                (self.random.uniform(2, 6), tip),
            ]
            box = inside(
                np.maximum(np.abs(self.x - x) / 2.3, np.abs(self.y - y) / 1.9), 0.1
            ) * inside(self.distance(x, y, 2.8, 2.4), 0.1)
            return self.random.uniform(0.5, 0.9) * box + 0.3 * self.stroke([curve(lead)], 0.25)
        line = [
            (side * 4, top - 6),
            (side * 4.5, top + 1),
            (-1.5, top + 6),
            (-2.2, self.random.uniform(-3, 2)),
        ]
        tube = [(0.2, top - 8), (0, 0), (0.8, self.bottom - 5), (4, self.bottom + 1)]
        return self.random.uniform(0.15, 0.3) * self.stroke(
            [curve(line if self.random.random() < 0.6 else tube)], 0.3
        )

    def clutter(self) -> np.ndarray:
        """Draw wires and electrodes lying on the chest."""
        drawn = np.zeros(self.shape, np.float32)
        if self.random.random() < 0.3:
            for _ in range(self.random.integers(1, 4)):
                knots = self.random.uniform((-14, self.top), (14, self.bottom), (4, 2))
                drawn += 0.13 * self.stroke([curve(knots)], 0.18) + 0.2 * inside(
                    self.distance(knots[-1, 0], knots[-1, 1], 0.6, 0.6), 0.15
                )
        return drawn

    def _bronchi(self) -> np.ndarray:
        angles, t = self.random.uniform(-1.2, 1.2, 24), np.linspace(0, 10, 6)
        xs = np.where(np.arange(24) % 2, 1, -1)[:, None] * (2.5 + np.cos(angles)[:, None] * t)
        return self.stroke(np.stack([xs, self.hilum() + 1.3 * np.sin(angles)[:, None] * t], 2), 0.3)


def curve(knots: np.ndarray | list[tuple[float, float]]) -> np.ndarray:
    """Return 24 points of the Bezier curve with these control points."""
    points, t = np.asarray(knots, float)[:, None], np.linspace(0, 1, 24)[:, None]
    while len(points) > 1:
        points = (1 - t) * points[:-1] + t * points[1:]
    return points[0]
