"""Geometry of one phantom radiograph, and the simple shapes that it consists of."""

import cv2
import numpy as np

from datamodules.phantoms.chest_patient import Patient

SIDES = (-1, 1)  # the patient's right lung is on the image's left


class Canvas:
    """Pose, breath and scale of one image.

    Shapes are given in cm from the middle of the chest, x to the image's right, y downwards.

    Attributes:
        random: Source of everything that varies between images of one patient.
        shape: Height and width in pixels.
        patient: Whose image it is.
        top: y of the lungs' tops.
        bottom: y of the costophrenic angles.
        dome: Height of the diaphragm's arch in this breath, in cm.
        scale: Pixels per cm.
        x: float32 `height x width`, each pixel's place in cm.
        y: float32 `height x width`, each pixel's place in cm.
    """

    def __init__(
        self, random: np.random.Generator, height: int, width: int, patient: Patient
    ) -> None:
        self.random, self.shape, self.patient = random, (height, width), patient
        breath = random.normal(0.98, 0.035)
        self.top, self.bottom = -patient.height / 2, patient.height * (breath - 0.5)
        self.dome = patient.dome * random.uniform(0.85, 1.15)
        room = (
            patient.half_width + 18,
            patient.height / 2 + 17.5,
        )  # large patients fill more of the film
        self.scale = min(width / room[0], height / room[1]) * random.uniform(
            0.92, 1.03
        )  # pixels per cm
        angle, (shift_x, shift_y) = random.normal(0, 0.035), random.normal(0, 0.45, 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self._matrix, self._origin = (
            turn * self.scale,
            np.array([width / 2 + shift_x * self.scale, height / 2 + (shift_y - 1) * self.scale]),
        )
        columns = np.arange(width, dtype=np.float32) - np.float32(self._origin[0])
        rows = np.arange(height, dtype=np.float32) - np.float32(self._origin[1])
        inverse = np.linalg.inv(self._matrix).astype(np.float32)
        self.x = inverse[0, 0] * columns + inverse[0, 1] * rows[:, None]
        self.y = inverse[1, 0] * columns + inverse[1, 1] * rows[:, None]

    def somewhere(self, allowed: np.ndarray) -> tuple[float, float]:
        """Sample a place in `allowed`; take the middle of the image if there is none.

        Args:
            allowed: Bool `height x width`.

        Returns:
            Its x and y in cm.
        """
        places = np.flatnonzero(allowed)
        place = places[self.random.integers(len(places))] if len(places) else allowed.size // 2
        return float(self.x.flat[place]), float(self.y.flat[place])

    def distance(
        self, x: float, y: float, across: float, down: float, turn: float = 0.0
    ) -> np.ndarray:
        """Return each pixel's distance from an ellipse's middle, 1 at its border.

        Args:
            x: Of the middle in cm.
            y: Of the middle in cm.
            across: Half axis along x in cm.
            down: Half axis along y in cm.
            turn: Of the axes, from x towards y, in radians.

        Returns:
            float32 `height x width`.
        """
        dx, dy = self.x - np.float32(x), self.y - np.float32(y)
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        return cv2.magnitude(
            (cos * dx + sin * dy) / np.float32(across), (cos * dy - sin * dx) / np.float32(down)
        )

    def noise(self, grain: float) -> np.ndarray:
        """Return smooth noise of mean 0 and standard deviation about 1.

        Args:
            grain: From one knot to the next in cm.

        Returns:
            float32 `height x width`.
        """
        knots = [max(3, round(side / (self.scale * grain)) + 1) for side in self.shape]
        return 1.4 * cv2.resize(
            self.random.standard_normal(knots, np.float32),
            self.shape[::-1],
            interpolation=cv2.INTER_CUBIC,
        )

    def fill(self, outline: np.ndarray | list[tuple[float, float]]) -> np.ndarray:
        """Fill a closed shape: 1 inside and 0 outside.

        Args:
            outline: `corners x 2`, in cm.

        Returns:
            float32 `height x width`.
        """
        canvas = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(canvas, [self._pixels(np.asarray(outline, float))], 255, cv2.LINE_AA, 4)
        return canvas.astype(np.float32) / 255

    def stroke(self, lines: np.ndarray | list[np.ndarray], width: float) -> np.ndarray:
        """Draw lines: 1 on them and 0 beside them, fainter where thinner than a pixel.

        Args:
            lines: Each `points x 2`, in cm.
            width: Of all of them in cm.

        Returns:
            float32 `height x width`.
        """
        canvas, pixels = np.zeros(self.shape, np.uint8), width * self.scale
        cv2.polylines(
            canvas,
            [self._pixels(line) for line in lines],
            False,
            255,
            max(1, round(pixels)),
            cv2.LINE_AA,
            4,
        )
        return canvas.astype(np.float32) * np.float32(min(1.0, pixels) / 255)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        return np.rint((points @ self._matrix.T + self._origin) * 16).astype(
            np.int32
        )  # OpenCV's fixed point with 4 bits
