"""Renderer of chest radiographs: organs, walls, film, collapse and confounders."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np


def blur_layer(layer: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a layer with a Gaussian; a wide one is computed on a coarser grid, which is faster.

    Args:
        layer: float32 `height x width`.
        sigma: Standard deviation in pixels; below 0.3 the layer itself is returned.

    Returns:
        float32 `height x width`.
    """
    if sigma < 0.3:
        return layer
    step = max(1, int(sigma / 2))
    coarse = (
        cv2.resize(
            layer,
            (-(-layer.shape[1] // step), -(-layer.shape[0] // step)),
            interpolation=cv2.INTER_AREA,
        )
        if step > 1
        else layer
    )
    soft = cv2.GaussianBlur(coarse, (0, 0), sigma / step, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(soft, layer.shape[::-1], interpolation=cv2.INTER_LINEAR) if step > 1 else soft


def sphere_thickness(distance: np.ndarray) -> np.ndarray:
    """Return the thickness of an ellipsoid, 1 at its center and 0 from its border on.

    Args:
        distance: Distance from the center, 1 at the border; float of any shape.
    """
    return np.sqrt(np.clip(1 - distance * distance, 0, None))


def soft_step(distance: np.ndarray, softness: float) -> np.ndarray:
    """Return 1 inside a border and 0 outside, with a transition over about `softness`.

    Args:
        distance: Distance from the center, 1 at the border; float of any shape.
        softness: Width of the transition in the unit of `distance`.
    """
    return 1 / (1 + np.exp(np.clip((distance - 1) * (3 / softness), -30, 30)))


@dataclass(frozen=True)
class ChestPatient:
    """Properties that all images of one patient share.

    Lengths are in cm, strengths are shares of the chest's own absorption.

    Attributes:
        half_width: Half the rib cage's inner width.
        height: Distance from the lungs' tops to the costophrenic angles.
        wall: Exponent of the lungs' outline; a larger one makes the lungs squarer.
        mediastinum: Half the width of the mediastinum.
        heart: Cardiothoracic ratio without "enlarged_heart".
        heart_shift: Distance of the heart's center from the midline, towards the patient's left.
        dome: Height of the diaphragm's arch.
        rib_spacing: Distance from one rib to the next.
        rib_slope: Drop of a rib from the spine to the side.
        rib_strength: Absorption of a rib.
        clavicle: Rise of a clavicle from the midline to the shoulder.
        bend: Scoliosis: largest distance of the spine from the midline.
        tissue: Thickness of the soft tissue around the rib cage.
        breast: Absorption of a breast shadow, 0 for none.
        air: Absorption that the lungs lack compared with other tissue.
        vessels: Seed of the vessel tree.
    """

    half_width: float
    height: float
    wall: float
    mediastinum: float
    heart: float
    heart_shift: float
    dome: float
    rib_spacing: float
    rib_slope: float
    rib_strength: float
    clavicle: float
    bend: float
    tissue: float
    breast: float
    air: float
    vessels: int


SIDES = (-1, 1)  # the patient's right lung is on the image's left


class ChestCanvas:
    """Pose, breath and scale of one image.

    Coordinates are in cm from the center of the chest, x to the right of the image, y downwards.

    Attributes:
        random: Source of everything that varies between images of one patient.
        shape: Height and width in pixels.
        patient: The patient of the image.
        top: y of the lungs' tops.
        bottom: y of the costophrenic angles.
        dome: Height of the diaphragm's arch in this breath, in cm.
        scale: Pixels per cm.
        x: float32 `height x width`, each pixel's place in cm.
        y: float32 `height x width`, each pixel's place in cm.
    """

    def __init__(
        self, random: np.random.Generator, height: int, width: int, patient: ChestPatient
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

    def sample_point(self, allowed: np.ndarray) -> tuple[float, float]:
        """Sample a position in `allowed`, or the center of the image if there is none.

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
        """Return each pixel's distance from the center of an ellipse, 1 at its border.

        Args:
            x: x of the center in cm.
            y: y of the center in cm.
            across: Semi-axis along x in cm.
            down: Semi-axis along y in cm.
            turn: Rotation of the axes, from x towards y, in radians.

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
            grain: Distance between the knots in cm.

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
            lines: Lines of `points x 2` in cm.
            width: Width of all lines in cm.

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


def beam_profile(canvas: ChestCanvas) -> np.ndarray:
    """Return the relative exposure, 0 outside the collimated field.

    Args:
        canvas: Canvas of the image that is exposed.

    Returns:
        Float `height x width`, about 1 in the field.
    """
    slope = canvas.random.normal(0, 0.004, 2).astype(np.float32)
    field = 1 + slope[0] * canvas.x + slope[1] * canvas.y
    if canvas.random.random() < 0.25:
        low, high = canvas.random.uniform(0, 0.05, 2), 1 - canvas.random.uniform(0, 0.05, 2)
        rows, columns = (
            np.linspace(0, 1, canvas.shape[0])[:, None],
            np.linspace(0, 1, canvas.shape[1]),
        )
        field = field * (
            (rows > low[0]) & (rows < high[0]) & (columns > low[1]) & (columns < high[1])
        )
    return field


def expose_film(random: np.random.Generator, absorption: np.ndarray, scale: float) -> np.ndarray:
    """Convert absorption to a film: transmission, scatter, quantum noise, processing, window.

    Args:
        random: Source of everything random.
        absorption: Float `height x width`, about 1 where the chest transmits little.
        scale: Pixels per cm.

    Returns:
        uint8 `height x width`.
    """
    dose, hardness = random.uniform(3000, 15000), random.uniform(2.2, 3.2)
    through = np.exp(-hardness * absorption).astype(np.float32)
    through = through + random.uniform(0.05, 0.35) * np.minimum(
        blur_layer(through, 4 * scale), 0.15
    )
    through += np.sqrt(through / dose) * random.standard_normal(through.shape, np.float32)
    film = -np.log(np.maximum(blur_layer(through, random.uniform(0.2, 0.6)), 1e-3))
    film = film - random.uniform(0.0, 0.55) * blur_layer(film, random.uniform(2, 5) * scale)
    low, high = np.quantile(film, [random.uniform(0.0, 0.06), random.uniform(0.96, 0.999)])
    gray = np.clip((film - low) / max(high - low, 1e-3), 0, 1) ** random.uniform(0.65, 1.6)
    return np.clip(
        (random.uniform(0, 0.08) + random.uniform(0.8, 0.95) * gray) * 255, 0, 255
    ).astype(np.uint8)


def draw_marker(random: np.random.Generator, image: np.ndarray, text: str | None) -> np.ndarray:
    """Burn letters into a corner.

    Args:
        random: Source of the letters' size and position.
        image: uint8 `height x width`, which is changed in place.
        text: The letters; None or an empty text leaves the image unchanged.

    Returns:
        `image` itself.
    """
    if not text:
        return image
    height, width = image.shape
    (across, above), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 2, 4)
    letters: np.ndarray = np.zeros((above + below, across), np.uint8)
    cv2.putText(letters, text, (0, above), cv2.FONT_HERSHEY_DUPLEX, 2, 255, 4, cv2.LINE_AA)
    factor = min(random.uniform(0.06, 0.085) * height / above, 0.26 * width / across)
    letters = cv2.resize(
        letters,
        (max(3, round(across * factor)), max(3, round((above + below) * factor))),
        interpolation=cv2.INTER_AREA,
    )
    rows, columns = letters.shape
    row, column = (
        round(random.uniform(0.02, 0.06) * height),
        round(random.uniform(0.02, 0.06) * width),
    )
    row = row if random.random() < 0.85 else height - row - rows
    column = column if random.random() < 0.5 else width - column - columns
    place = image[row : row + rows, column : column + columns]
    np.maximum(place, letters, out=place)
    return image


class ChestWall(ChestCanvas):
    """Layers around the lungs: float `height x width`, absorption relative to that of the torso."""

    def body(self) -> np.ndarray:
        """Draw torso, neck and arms without bones and organs."""
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
        body = blur_layer(self.fill(outline), 1.2 * self.scale)
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
                body *= 1 - 0.9 * blur_layer(self.fill(gap * (side, 1)), 0.4 * self.scale)
        return body * (1 + 0.006 * np.clip(self.y - self.bottom + self.dome, 0, 8))

    def wall(self, v: Any) -> Any:
        """Return half the inner width of the rib cage in cm.

        Args:
            v: Relative heights from the lungs' tops (0) to their bottoms (1), of any shape; values
                outside 0..1 are clipped.
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
        bones += (0.17 + 0.03 * np.sin(2.6 * self.y)) * blur_layer(
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
        return blur_layer(bones, 0.06 * self.scale)

    def soft_tissue(self) -> np.ndarray:
        """Draw breasts and nipples, which may be mistaken for opacities and nodules."""
        tissue = np.zeros(self.shape, np.float32)
        drop = self.random.uniform(0.15, 0.3) * self.patient.height
        nipples = self.random.random() < 0.2
        for side in SIDES:
            middle = side * 0.55 * self.patient.half_width
            tissue += self.patient.breast * sphere_thickness(self.distance(middle, drop, 6.0, 5.0))
            if nipples:
                tissue += 0.1 * soft_step(self.distance(middle * 1.1, drop + 2, 0.5, 0.45), 0.8)
        return tissue


class ChestOrgans(ChestWall):
    """Layers within the rib cage.

    They are float `height x width`, absorption relative to that of the torso unless stated
    otherwise.
    """

    def lungs(self) -> np.ndarray:
        """Return the amount of air along each pixel's ray, 0..1."""
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
                * (0.35 + 0.65 * blur_layer(mask, 1.3 * self.scale))
                * self.random.uniform(0.9, 1.0)
            )
        return blur_layer(lungs, 0.12 * self.scale)

    def heart(self, enlarged: bool) -> np.ndarray:
        """Draw the heart and the great vessels, 0..1.

        Args:
            enlarged: True if the heart takes more than half the chest's width.
        """
        ratio = (
            self.random.uniform(0.57, 0.68)
            if enlarged
            else self.patient.heart + self.random.normal(0, 0.01)
        )
        extent, tilt = ratio * self.patient.half_width, 0.6
        flat = extent / np.sqrt(np.cos(tilt) ** 2 + (0.68 * np.sin(tilt)) ** 2)
        middle = self.bottom - 0.7 * self.dome - 0.55 * flat
        heart = sphere_thickness(
            self.distance(self.patient.heart_shift + 0.06 * extent, middle, flat, 0.68 * flat, tilt)
        )
        knob = sphere_thickness(
            self.distance(0.9 * self.patient.mediastinum, 0.45 * self.top, 1.9, 2.1)
        )
        return blur_layer(np.maximum(heart, 0.8 * knob), 0.15 * self.scale)

    def airway(self) -> np.ndarray:
        """Return the absorption missing in trachea, main bronchi and, at times, stomach gas."""
        fork, shift = 0.3 * self.top, self.random.normal(0, 0.3)
        tubes = [
            np.array([(shift, -30), (shift, fork)]),
            np.array([(-3.2, fork + 2.2), (shift, fork), (3.6, fork + 2.6)]),
        ]
        gas = soft_step(
            self.distance(
                6.5, self.bottom - 0.2, self.random.uniform(1.5, 3.5), self.random.uniform(0.8, 2.0)
            ),
            0.2,
        )
        gas *= float(self.random.random() < 0.4)
        return (
            0.13
            * blur_layer(
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
            drawn += 0.16 * sphere_thickness(
                self.distance(
                    where * (self.patient.mediastinum + 1.0), self.hilum(), 1.8, 2.8, -0.3 * where
                )
            )
        return blur_layer(drawn, 0.08 * self.scale)

    def haze(self) -> np.ndarray:
        """Return the fraction of air lost to haze, which healthy lungs have too.

        It is caused by shallow breath, overlying tissue, and thin streaks at the bases.
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
            + 0.2 * (self.random.random() < 0.25) * soft_step(streak, 0.4)
            + 0.06 * self.noise(5.0)
            + 0.04 * self.noise(0.9)
        )

    def hilum(self) -> float:
        """Return the height (y) in cm at which the vessels enter the lungs."""
        return 0.08 * self.top


class ChestRenderer(ChestOrgans):
    """Chest with findings, devices and clutter.

    Layers are float `height x width`, absorption relative to that of the torso unless stated
    otherwise.
    """

    def opacity(self, air: np.ndarray) -> np.ndarray:
        """Return the fraction of air lost to 1 to 3 consolidations.

        They are patchy or lobar, with soft irregular borders, and sometimes have air bronchograms.

        Args:
            air: Amount of air along each pixel's ray, float `height x width`, 0..1; the centers of
                the consolidations lie where it exceeds 0.5.
        """
        lost: np.ndarray = np.zeros(self.shape, np.float32)
        for _ in range(self.random.choice([1, 2, 3], p=[0.5, 0.3, 0.2])):
            x, y = self.sample_point(air > 0.5)
            long, turn = (
                min(max(3.5 * self.random.lognormal(0, 0.35), 1.8), 7.0),
                self.random.uniform(0, np.pi),
            )
            distance = (
                self.distance(x, y, long, long * self.random.uniform(0.55, 1), turn)
                + 0.22 * self.noise(2.4)
                + 0.1 * self.noise(1.0)
            )
            patch = soft_step(distance, self.random.uniform(0.4, 0.9))
            if self.random.random() < 0.3:  # it stops at a fissure
                patch *= soft_step(
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
        """Return the fraction of air lost to fluid in one or both costophrenic angles.

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
                * soft_step(1 + level - self.y, self.random.uniform(0.25, 0.5)),
            )
        return lost

    def nodules(self, air: np.ndarray) -> np.ndarray:
        """Draw 1 to 3 round shadows of 5 to 15 mm.

        Args:
            air: Amount of air along each pixel's ray, float `height x width`, 0..1; the centers of
                the nodules lie where it exceeds 0.6.
        """
        drawn = np.zeros(self.shape, np.float32)
        for _ in range(self.random.integers(1, 4)):
            x, y = self.sample_point(air > 0.6)
            radius = self.random.uniform(0.25, 0.75)
            drawn += self.random.uniform(0.13, 0.26) * sphere_thickness(
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
            box = soft_step(
                np.maximum(np.abs(self.x - x) / 2.3, np.abs(self.y - y) / 1.9), 0.1
            ) * soft_step(self.distance(x, y, 2.8, 2.4), 0.1)
            return self.random.uniform(0.5, 0.9) * box + 0.3 * self.stroke(
                [bezier_curve(lead)], 0.25
            )
        line = [
            (side * 4, top - 6),
            (side * 4.5, top + 1),
            (-1.5, top + 6),
            (-2.2, self.random.uniform(-3, 2)),
        ]
        tube = [(0.2, top - 8), (0, 0), (0.8, self.bottom - 5), (4, self.bottom + 1)]
        return self.random.uniform(0.15, 0.3) * self.stroke(
            [bezier_curve(line if self.random.random() < 0.6 else tube)], 0.3
        )

    def clutter(self) -> np.ndarray:
        """Draw wires and electrodes lying on the chest."""
        drawn = np.zeros(self.shape, np.float32)
        if self.random.random() < 0.3:
            for _ in range(self.random.integers(1, 4)):
                knots = self.random.uniform((-14, self.top), (14, self.bottom), (4, 2))
                drawn += 0.13 * self.stroke([bezier_curve(knots)], 0.18) + 0.2 * soft_step(
                    self.distance(knots[-1, 0], knots[-1, 1], 0.6, 0.6), 0.15
                )
        return drawn

    def _bronchi(self) -> np.ndarray:
        angles, t = self.random.uniform(-1.2, 1.2, 24), np.linspace(0, 10, 6)
        xs = np.where(np.arange(24) % 2, 1, -1)[:, None] * (2.5 + np.cos(angles)[:, None] * t)
        return self.stroke(np.stack([xs, self.hilum() + 1.3 * np.sin(angles)[:, None] * t], 2), 0.3)


def bezier_curve(knots: np.ndarray | list[tuple[float, float]]) -> np.ndarray:
    """Return 24 points of the Bezier curve with these control points."""
    points, t = np.asarray(knots, float)[:, None], np.linspace(0, 1, 24)[:, None]
    while len(points) > 1:
        points = (1 - t) * points[:-1] + t * points[1:]
    return points[0]


MIN_AIR_PIXELS = 6  # smallest lesion in pixels, so that small images still show it
ANGLES = np.linspace(
    -0.9, np.pi, 96
)  # angles around the hilum: 0 is up, pi/2 is lateral, pi is down
# range of the air's middle angle, its spread in radians, and its probability: apical, lateral, all
# around, and deep in the costophrenic sulcus of a supine patient
COLLAPSE_SITES = (
    (-0.1, 0.6, 0.45, 0.50),
    (0.9, 1.6, 0.5, 0.22),
    (0.5, 1.2, 1.1, 0.16),
    (2.0, 2.4, 0.32, 0.12),
)


@dataclass(frozen=True)
class LungCollapse:
    """Lung that has collapsed away from the chest wall.

    Attributes:
        air: Pleural air, float `height x width`, 0..1.
        line: Visceral pleura seen edge-on, float `height x width`, 0..1.
        lung: The rest of this side's lung, float `height x width`, 0..1.
        share: Share of the lung's area that is now pleural air.
    """

    air: np.ndarray
    line: np.ndarray
    lung: np.ndarray
    share: float


def collapse_lung(
    chest: ChestOrgans, random: np.random.Generator, field: np.ndarray, side: int, area: float
) -> LungCollapse:
    """Collapse a lung towards its hilum until the air beside it covers `area` of the image.

    The area is at least 6 pixels; the lung collapses at most 80 % of the way to its hilum.

    Args:
        chest: Chest of the lung.
        random: Source of position and shape.
        field: Bool `height x width`, True where this lung is visible.
        side: -1 or 1, one of SIDES.
        area: Area as a fraction of the image.
    """
    x, y = side * (chest.patient.mediastinum + 0.4), chest.hilum()
    places = np.flatnonzero(field)
    radius, angle = cv2.cartToPolar(y - chest.y.flat[places], side * (chest.x.flat[places] - x))
    radius, angle = radius.ravel(), (angle.ravel() + np.pi / 2) % (2 * np.pi) - np.pi / 2
    wall, shape = _wall_distance(radius, angle), _CollapseShape.sample(random, area)
    wanted, low, high = max(area * field.size, MIN_AIR_PIXELS), 0.0, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        seen = np.count_nonzero(
            radius
            > np.interp(angle, ANGLES, _pleura_distance(wall, shape.collapsed_fraction(middle)))
        )
        low, high = (middle, high) if seen < wanted else (low, middle)
    pleura = _pleura_distance(wall, shape.collapsed_fraction(high))
    air = np.zeros(chest.shape, np.float32)
    beyond = (radius - np.interp(angle, ANGLES, pleura)) * chest.scale
    air.flat[places] = np.clip(beyond + 0.5, 0, 1)
    _remove_small_parts(air)
    bare = wall - pleura > 0.12
    points = np.stack([x + side * np.sin(ANGLES) * pleura, y - np.cos(ANGLES) * pleura], 1)
    runs = [
        points[run]
        for run in np.split(np.arange(len(ANGLES)), np.flatnonzero(np.diff(bare)) + 1)
        if bare[run[0]] and len(run) > 1
    ]
    line = (
        blur_layer(chest.stroke(runs, 0.14), 0.04 * chest.scale) * field
        if runs
        else np.zeros_like(air)
    )
    return LungCollapse(air, line, field * (1 - air), float(np.mean(beyond > 0)))


def _remove_small_parts(air: np.ndarray) -> None:
    """Remove small separate pieces, such as a pixel between heart and diaphragm."""
    _, parts, about, _ = cv2.connectedComponentsWithStats((air > 0.5).astype(np.uint8))
    sizes = about[:, cv2.CC_STAT_AREA]
    air[(sizes < 0.2 * sizes[1:].max(initial=0))[parts]] = 0


@dataclass(frozen=True)
class _CollapseShape:
    """Shape of a collapse around the hilum: center and spread in radians, and irregularities."""

    middle: float
    spread: float
    squareness: float
    waves: np.ndarray

    @classmethod
    def sample(cls, random: np.random.Generator, area: float) -> "_CollapseShape":
        """Sample one of COLLAPSE_SITES; a large `area` is seldom only basal."""
        chances = np.array([chance for *_, chance in COLLAPSE_SITES]) * (
            1,
            1,
            1 + 60 * area,
            1 / (1 + 200 * area),
        )
        first, last, spread, _ = COLLAPSE_SITES[
            random.choice(len(COLLAPSE_SITES), p=chances / chances.sum())
        ]
        waves = np.interp(ANGLES, np.linspace(ANGLES[0], ANGLES[-1], 7), random.normal(0, 0.1, 7))
        return cls(
            random.uniform(first, last),
            spread * random.uniform(0.75, 1.3),
            random.uniform(2, 3),
            waves,
        )

    def collapsed_fraction(self, progress: float) -> np.ndarray:
        """Return the collapsed fraction of the distance to the hilum at each of ANGLES.

        With more progress, a larger part of the circumference collapses.

        Args:
            progress: Progress from 0 (no collapse) to 1 (complete collapse).
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
        )  # held by the mediastinum, and below by the ligament
        return 0.8 * progress * np.clip(bump * (1 + self.waves), 0, 1) * held


def _wall_distance(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return the distance from hilum to lung border at each of ANGLES, in cm.

    `radius` and `angle` are the polar coordinates of the lung's pixels.
    """
    bins = np.rint(np.interp(angle, ANGLES, np.arange(len(ANGLES)))).astype(int)
    farthest = np.zeros(len(ANGLES), np.float32)
    np.maximum.at(farthest, bins, radius)
    closed = cv2.dilate(farthest[:, None], np.ones((5, 1), np.uint8))
    return cv2.GaussianBlur(closed, (1, 5), 1.0, borderType=cv2.BORDER_REPLICATE)[:, 0]


def _pleura_distance(wall: np.ndarray, collapsed_fraction: np.ndarray) -> np.ndarray:
    """Return the distance from hilum to visceral pleura at each of ANGLES, in cm.

    It is smooth where the pleura has left the wall, and far beyond the wall elsewhere.

    Args:
        wall: Distance to the chest wall at each of ANGLES, in cm.
        collapsed_fraction: Fraction of that distance by which the lung has collapsed.
    """
    smooth = cv2.GaussianBlur(
        (wall * (1 - collapsed_fraction)).astype(np.float32)[:, None],
        (1, 21),
        3.0,
        borderType=cv2.BORDER_REPLICATE,
    )[:, 0]
    free = np.clip(collapsed_fraction / 0.06, 0, 1)
    pleura = wall * (1 - free) + np.minimum(smooth, wall) * free
    return np.where(collapsed_fraction > 0.01, pleura, 2 * wall)


def draw_confounders(chest: ChestRenderer, side: int, contrast: float = 1.0) -> np.ndarray:
    """Draw the confounders over the lungs of one image.

    Args:
        chest: Chest of the image; its `random` is the source of everything random.
        side: -1 or 1, the side of a pneumothorax, where a chest tube is slightly more likely; 0 for
            none.
        contrast: Contrast of what resembles a pneumothorax (skin folds, shoulder blades, clothes,
            hair); use that of the pneumothoraces, so that they can be mistaken for each other. It
            does not apply to tubes and wires.

    Returns:
        float32 `height x width`, absorption relative to that of the torso.
    """
    random = chest.random
    drawn = np.zeros(chest.shape, np.float32)
    if random.random() < 0.22:
        drawn += chest.device()
    for _ in range(random.choice(3, p=[0.55, 0.3, 0.15])):
        drawn += contrast * _draw_skin_fold(chest)
    if random.random() < 0.3:
        drawn += contrast * _draw_scapula(chest, int(random.choice(SIDES)))
    if random.random() < 0.2:
        drawn += contrast * _draw_cloth(chest)
    if random.random() < 0.12:
        drawn += contrast * _draw_hair(chest, int(random.choice(SIDES)))
    if random.random() < (
        0.24 if side else 0.16
    ):  # last, so that everything else is the same with and without a pneumothorax
        drawn += _draw_chest_tube(
            chest, side if side and random.random() < 0.7 else int(random.choice(SIDES))
        )
    return drawn


def _draw_chest_tube(chest: ChestRenderer, side: int) -> np.ndarray:
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
    path = bezier_curve(knots) * (side, 1)
    width = between(0.5, 0.85)
    outer, lumen = chest.stroke([path], width), chest.stroke([path], 0.6 * width)
    hole = between(12, 17)
    stripe = chest.stroke([path[: int(hole)], path[int(hole) + 2 :]], 0.16)
    return between(0.5, 1.1) * blur_layer(
        0.14 * outer - 0.06 * lumen + 0.2 * stripe, 0.04 * chest.scale
    )


def _draw_skin_fold(chest: ChestRenderer) -> np.ndarray:
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
    toward = np.sin(tilt), -np.cos(tilt)  # from the center of the arc to the position
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
    return (between(0.1, 0.26) * ends * band * soft_step(1 - depth, between(0.06, 0.14))).astype(
        np.float32
    )


def _draw_scapula(chest: ChestRenderer, side: int) -> np.ndarray:
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
    path = bezier_curve(border) * (side, 1)
    blade = np.concatenate(
        [path, np.array([(edge + 1, chest.top + 8), (edge, chest.top + 2)]) * (side, 1)]
    )
    return blur_layer(
        between(0.03, 0.08) * chest.fill(blade) + between(0.03, 0.1) * chest.stroke([path], 0.2),
        0.05 * chest.scale,
    )


def _draw_cloth(chest: ChestRenderer) -> np.ndarray:
    """Draw the edge of a gown or sheet across the chest, inside and outside the lungs."""
    side, between = int(chest.random.choice(SIDES)), chest.random.uniform
    xs = between((3, 2, 3, 4), (14, 12, 12, 16))
    path = bezier_curve(np.stack([side * xs, between((-22, -9, 0, 24), (-22, 0, 9, 24))], 1))
    sheet = np.concatenate([path, np.array([(side * 40, 24), (side * 40, -22)])])
    return blur_layer(
        between(0.015, 0.05) * chest.fill(sheet) + between(0.0, 0.06) * chest.stroke([path], 0.2),
        0.05 * chest.scale,
    )


def _draw_hair(chest: ChestRenderer, side: int) -> np.ndarray:
    """Draw strands of hair that hang from the neck over a lung's apex."""
    random = chest.random
    root, tip = (
        np.array([side * random.uniform(2, 4), chest.top - 7]),
        np.array([side * random.uniform(4, 8), chest.top + random.uniform(2, 7)]),
    )
    strands = [
        bezier_curve(
            root + (tip - root) * np.linspace(0, 1, 4)[:, None] + random.normal(0, 0.7, (4, 2))
        )
        for _ in range(random.integers(3, 9))
    ]
    return random.uniform(0.04, 0.1) * chest.stroke(strands, 0.12)
