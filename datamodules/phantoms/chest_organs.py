"""Organs inside the rib cage of a phantom radiograph, present in healthy patients too."""

import numpy as np

from datamodules.phantoms.chest_canvas import SIDES
from datamodules.phantoms.chest_shading import ball, inside, soften
from datamodules.phantoms.chest_wall import ChestWall


class Organs(ChestWall):
    """Layers within the rib cage.

    They are float `height x width`, absorption as a share of the torso's own unless stated
    otherwise.
    """

    def lungs(self) -> np.ndarray:
        """Return how much air each pixel's ray crosses, 0..1."""
        patient, v, f = self.patient, np.linspace(0, 1, 24), np.linspace(0, 1, 16)
        lungs = np.zeros(self.shape, np.float32)
        for side in SIDES:
            inner = patient.mediastinum + self.random.normal(0, 0.25)
            dome = self.dome + (0.8 if side < 0 else -0.3)
            wall = np.stack([self.wall(v), self.top + v * (self.bottom - self.top)], 1)
            floor = np.stack(
                [
                    wall[-1, 0] + f * (inner - wall[-1, 0]),
                    self.bottom - dome * (1 - (1 - 1.5 * f) ** 2),
                ],
                1,
            )
            medial = np.stack(
                [
                    inner + 1.8 * np.exp(-9 * v[::-1]),
                    self.top + v[::-1] * (floor[-1, 1] - self.top),
                ],
                1,
            )
            mask = self.fill(np.concatenate([wall, floor, medial]) * (side, 1))
            lungs += (
                mask
                * (0.35 + 0.65 * soften(mask, 1.3 * self.scale))
                * self.random.uniform(0.9, 1.0)
            )
        return soften(lungs, 0.12 * self.scale)

    def heart(self, enlarged: bool) -> np.ndarray:
        """Draw the heart and the great vessels, 0..1.

        Args:
            enlarged: Whether the heart takes more than half the chest's width.
        """
        ratio = (
            self.random.uniform(0.57, 0.68)
            if enlarged
            else self.patient.heart + self.random.normal(0, 0.01)
        )
        extent, tilt = ratio * self.patient.half_width, 0.6
        flat = extent / np.sqrt(np.cos(tilt) ** 2 + (0.68 * np.sin(tilt)) ** 2)
        middle = self.bottom - 0.7 * self.dome - 0.55 * flat
        heart = ball(
            self.distance(self.patient.heart_shift + 0.06 * extent, middle, flat, 0.68 * flat, tilt)
        )
        knob = ball(self.distance(0.9 * self.patient.mediastinum, 0.45 * self.top, 1.9, 2.1))
        return soften(np.maximum(heart, 0.8 * knob), 0.15 * self.scale)

    def airway(self) -> np.ndarray:
        """Return the absorption missing in trachea, main bronchi and, at times, stomach gas."""
        fork, shift = 0.3 * self.top, self.random.normal(0, 0.3)
        tubes = [
            np.array([(shift, -30), (shift, fork)]),
            np.array([(-3.2, fork + 2.2), (shift, fork), (3.6, fork + 2.6)]),
        ]
        gas = inside(
            self.distance(
                6.5, self.bottom - 0.2, self.random.uniform(1.5, 3.5), self.random.uniform(0.8, 2.0)
            ),
            0.2,
        )
        gas *= float(self.random.random() < 0.4)
        return (
            0.13
            * soften(
                self.stroke(tubes[:1], 1.7) + 0.6 * self.stroke(tubes[1:], 1.1), 0.2 * self.scale
            )
            + 0.2 * gas
        )

    def vessels(self) -> np.ndarray:
        """Draw the hila and the patient's own tree of vessels."""
        own = np.random.default_rng(self.patient.vessels)
        drawn = np.zeros(self.shape, np.float32)
        for width, number, length in ((0.55, 7, 5.0), (0.36, 18, 7.5), (0.2, 34, 10.0)):
            angles = own.uniform(-1.35, 1.35, number)
            reach = own.uniform(0.5, 1.0, number) * length
            wander = np.cumsum(own.normal(0, 0.35, (number, 8)), 1)
            t = np.linspace(0.15, 1, 8) * reach[:, None]
            side = np.where(np.arange(number) % 2, 1, -1)[:, None]
            xs = side * (
                self.patient.mediastinum + 0.6 + np.cos(angles)[:, None] * t * 1.05 - 0.3 * wander
            )
            ys = self.hilum() + 1.35 * np.sin(angles)[:, None] * t + wander
            drawn += (0.06 + 0.1 * width) * self.stroke(np.stack([xs, ys], 2), width)
        for where in SIDES:
            drawn += 0.16 * ball(
                self.distance(
                    where * (self.patient.mediastinum + 1.0), self.hilum(), 1.8, 2.8, -0.3 * where
                )
            )
        return soften(drawn, 0.08 * self.scale)

    def crowding(self) -> np.ndarray:
        """Return the share of the air lost to haze that healthy lungs have too.

        It stems from shallow breath, overlying tissue, and thin streaks at the bases.
        """
        base = self.random.uniform(0, 0.28) / (
            1 + np.exp((self.bottom - self.dome - 1 - self.y) / 1.5)
        )
        streak = self.distance(
            self.random.uniform(-9, 9),
            self.bottom - self.dome - 1,
            2.5,
            0.3,
            self.random.normal(0, 0.3),
        )
        return (
            base
            + 0.2 * (self.random.random() < 0.25) * inside(streak, 0.4)
            + 0.06 * self.noise(5.0)
            + 0.04 * self.noise(0.9)
        )

    def hilum(self) -> float:
        """Return the height (y) in cm at which the vessels enter the lungs."""
        return 0.08 * self.top
