"""Chest wall of a phantom radiograph: the torso, its bones and its soft tissue."""

from typing import Any

import numpy as np

from datamodules.phantoms.chest_canvas import SIDES, Canvas
from datamodules.phantoms.chest_shading import ball, inside, soften


class ChestWall(Canvas):
    """Layers around the lungs: float `height x width`, absorption as a share of the torso's own."""

    def body(self) -> np.ndarray:
        """Draw torso, neck and arms, without anything in them."""
        edge, arm = self.patient.half_width + self.patient.tissue, 2 + 0.8 * self.patient.tissue
        half = [
            (4.8, -40),
            (5, self.top - 5),
            (6, self.top - 2),
            (edge + 1, self.top + 2),
            (edge + arm + 2, self.top + 7),
            (edge + arm + 4, 40),
        ]
        outline = [*half, *((-x, y) for x, y in reversed(half))]
        body = soften(self.fill(outline), 1.2 * self.scale)
        gap = np.array(
            [
                (edge + 0.5, self.top + 13),
                (edge + 0.7, self.top + 20),
                (edge + 0.2, 40),
                (edge + arm - 2, 40),
            ]
        )
        if self.patient.tissue < 3.6:  # the arms are held away from the torso
            for side in SIDES:
                body *= 1 - 0.9 * soften(self.fill(gap * (side, 1)), 0.4 * self.scale)
        return body * (1 + 0.006 * np.clip(self.y - self.bottom + self.dome, 0, 8))

    def wall(self, v: Any) -> Any:
        """Return the inner half width of the rib cage in cm.

        Args:
            v: Shares of the way from the lungs' tops down to their bottoms, of any shape; those
                outside 0..1 count as 0 or 1.
        """
        apex = 0.35 * self.patient.half_width
        return apex + (self.patient.half_width - apex) * np.sqrt(
            1 - (1 - np.clip(v, 0, 1)) ** self.patient.wall
        )

    def skeleton(self) -> np.ndarray:
        """Draw ribs, spine, clavicles, scapulae and humeri."""
        patient, spine = self.patient, np.linspace(-30, 30, 40)
        bones, t = np.zeros(self.shape, np.float32), np.linspace(0, 1, 12)
        back: list[np.ndarray] = []
        front: list[np.ndarray] = []
        for number in range(10):
            y = self.top + 0.4 + number * patient.rib_spacing
            for side in SIDES:
                reach = (
                    self.wall((y + patient.rib_slope - self.top) / (self.bottom - self.top)) + 0.4
                )
                arch = y + patient.rib_slope * t**1.7 - 1.2 * np.sin(np.pi * np.minimum(1.4 * t, 1))
                back.append(
                    np.stack([side * (1.5 + (reach - 1.5) * np.sin(t * np.pi / 2)), arch], 1)
                )
                front.append(
                    np.stack(
                        [side * (reach - (reach - 5) * t), y + patient.rib_slope + 3.5 * t**1.3], 1
                    )[:9]
                )
        for ribs, strength in ((back, 1.0), (front[: 2 * 7], 0.6)):
            bones += (
                strength
                * patient.rib_strength
                * (self.stroke(ribs, 0.95) - 0.45 * self.stroke(ribs, 0.55))
            )
        bend = patient.bend * np.sin((spine + 8) / 9)
        bones += (0.17 + 0.03 * np.sin(2.6 * self.y)) * soften(
            self.stroke([np.stack([bend, spine], 1)], 3.4), 0.25 * self.scale
        )
        for side in SIDES:
            edge = patient.half_width + 2
            outer = self.top + 2 - patient.clavicle
            clavicle = [
                (1.8, self.top + 3.5),
                (5, self.top + 3.2),
                (9, outer + 0.2 + patient.clavicle / 2),
                (edge, outer),
            ]
            blade = [
                (edge, self.top + 3),
                (edge - 4.5, self.top + 5),
                (edge - 1.5, self.top + 15),
                (edge + 1, self.top + 7),
            ]
            bones += 0.13 * self.stroke([np.array(clavicle) * (side, 1)], 1.2) + 0.06 * self.fill(
                np.array(blade) * (side, 1)
            )
            bones += 0.2 * self.stroke(
                [np.array([(edge + 3, self.top + 5), (edge + 6, 30)]) * (side, 1)], 2.2
            )
        return soften(bones, 0.06 * self.scale)

    def soft_tissue(self) -> np.ndarray:
        """Draw breasts and nipples, which are neither opacities nor nodules."""
        tissue = np.zeros(self.shape, np.float32)
        drop = self.random.uniform(0.15, 0.3) * self.patient.height
        nipples = self.random.random() < 0.2
        for side in SIDES:
            middle = side * 0.55 * self.patient.half_width
            tissue += self.patient.breast * ball(self.distance(middle, drop, 6.0, 5.0))
            if nipples:
                tissue += 0.1 * inside(self.distance(middle * 1.1, drop + 2, 0.5, 0.45), 0.8)
        return tissue
