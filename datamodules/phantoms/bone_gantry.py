"""Projection of one phantom patient onto the two heads of a gamma camera.

The body is posed, and its uptake is projected, attenuated and blurred.
"""

import cv2
import numpy as np

from datamodules.phantoms.bone_outlines import Outline, Shape, mirrored
from datamodules.phantoms.bone_patient import Patient
from datamodules.phantoms.bone_pose import FIELD, Site, pose

VIEWS = ("ANT", "POST")
# per cm of tissue at 140 keV; less than the narrow beam's 0.15, as the window passes some scatter
ATTENUATION = 0.11
DEEP = 8.0  # cm of tissue beyond which a source is blurred as a deep one
# Gaussian sigma in cm, of shallow and deep sources (9 and 14 mm FWHM of a high-resolution
# collimator), and of haze
BLUR = (0.4, 0.6, 1.3)
# scattered counts per unscattered count, and the Gaussian sigma of their displacement in cm
SCATTER, SCATTER_REACH = (0.12, 4.0)
FINEST = 0.3  # cm a pixel while shapes are drawn


class Gantry:
    """Collector of a patient's uptake as both camera heads see it.

    Both views are kept in the anterior orientation; `examine` mirrors the posterior one.

    Attributes:
        random: Source of what differs between the sides of the body and from bone to bone.
        patient: Who lies there.
        shape: Height and width of the images in pixels.
        sites: Where lesions may be, in the order in which the bones were drawn.
    """

    def __init__(self, random: np.random.Generator, patient: Patient, height: int) -> None:
        self.random, self.patient, self.shape = random, patient, (height, height // 4)
        self.sites: list[Site] = []
        self._finer = max(1, int(np.ceil(FIELD / height / FINEST - 0.25)))
        self._pixel = FIELD / height / self._finer  # cm
        self._layers = np.zeros(
            (2, len(BLUR), height * self._finer, height // 4 * self._finer), np.float32
        )  # view, depth

    def add(
        self, part: str, shapes: list[Shape], front: float, back: float, haze: bool = False
    ) -> None:
        """Add uptake to the body.

        Args:
            part: Of the body, as "trunk" or "shin_left".
            shapes: Outlines in the body's cm with their uptake; where two overlap the later one
                counts.
            front: cm of tissue before them.
            back: cm of tissue behind them.
            haze: Whether it has no sharp border, as soft tissue.
        """
        drawn, unit, window = self._draw(part, shapes, 0)
        for view, depth in enumerate((front, back)):
            layer = self._layers[view, 2 if haze else int(depth > DEEP)][window]
            cv2.addWeighted(drawn, unit * self._passing(depth), layer, 1, 0, layer, cv2.CV_32F)

    def add_pair(
        self,
        part: str,
        shapes: list[Shape],
        front: float,
        back: float,
        uneven: float = 0.05,
        haze: bool = False,
    ) -> None:
        """Add shapes, given for the patient's left, on both sides; see `add`.

        `uneven` is the standard deviation of each side's uptake, as a share of it.
        """
        for side in ("left", "right"):
            factor = self.random.lognormal(0, uneven)
            own = [
                (outline if side == "left" else mirrored(outline), uptake * factor)
                for outline, uptake in shapes
            ]
            self.add(
                part if part in ("trunk", "head") else f"{part}_{side}", own, front, back, haze
            )

    def add_sites(
        self,
        bone: str,
        part: str,
        places: list[tuple[float, float]],
        turn: float,
        width: float,
        depth: tuple[float, float],
    ) -> None:
        """Register sites where lesions may be, given for the patient's left, on both sides.

        Args:
            bone: As "rib".
            part: Of the body, as "trunk" or "shin".
            places: x and y of each in the body's cm; there is but one at x = 0.
            turn: Direction along the bone, from x towards y, in radians.
            width: Across the bone in cm.
            depth: cm of tissue before and behind it.
        """
        for x, y in places:
            for side, sign in (("left", 1), ("right", -1))[: 1 if x == 0 else 2]:
                own = part if part in ("trunk", "head") else f"{part}_{side}"
                self.sites.append(
                    Site(bone, own, sign * x, y, turn if sign > 0 else np.pi - turn, width, *depth)
                )

    def body(self) -> np.ndarray:
        """Return what was added, blurred and without scatter.

        Returns:
            float32 `2 x height x width`; the posterior view is not mirrored yet.
        """
        whole = np.zeros((2, *self.shape), np.float32)
        for image, view in zip(whole, self._layers, strict=True):
            for layer, sigma in zip(view, BLUR, strict=True):
                image += self._blurred(layer, sigma)
        return whole

    def seen(self, part: str, shapes: list[Shape], front: float, back: float) -> np.ndarray:
        """Return what both heads see of shapes that are not added; see `add` and `body`."""
        drawn, unit, window = self._draw(part, shapes, round(4 * BLUR[1] / self._pixel))
        whole = np.zeros((2, *self.shape), np.float32)
        small = tuple(slice(edge.start // self._finer, edge.stop // self._finer) for edge in window)
        for image, depth in zip(whole, (front, back), strict=True):
            image[small] = self._blurred(
                drawn * np.float32(unit * self._passing(depth)), BLUR[int(depth > DEEP)]
            )
        return whole

    def with_scatter(self, whole: np.ndarray) -> np.ndarray:
        """Add scatter to the views, float32 `2 x height x width`."""
        return np.stack(
            [
                image
                + SCATTER
                * cv2.GaussianBlur(image, (0, 0), SCATTER_REACH / self._pixel / self._finer)
                for image in whole
            ]
        )

    def place(self, part: str, points: Outline) -> np.ndarray:
        """Map points of the body to pixels of the anterior image.

        Args:
            part: Of the body, as "trunk" or "shin_left".
            points: `points x 2` in the body's cm.

        Returns:
            `points x 2`, x and y in pixels, edges counted from 0.
        """
        return pose(self.patient, part, points) / (self._pixel * self._finer)

    def _draw(
        self, part: str, shapes: list[Shape], margin: int
    ) -> tuple[np.ndarray, float, tuple[slice, slice]]:
        """Rasterise the shapes.

        Returns:
            The shapes as uint8, the uptake of one grey level, and the window (rows, columns) of the
            layers that holds the shapes and the margin.
        """
        outlines = [pose(self.patient, part, outline) / self._pixel - 0.5 for outline, _ in shapes]
        corners, window = np.concatenate(outlines), []
        for low, high, size in zip(
            corners.min(0) - margin - 2,
            corners.max(0) + margin + 3,
            self._layers.shape[:1:-1],
            strict=True,
        ):
            start = int(
                np.clip(low // self._finer, 0, size // self._finer - 1)
            )  # a hand may lie outside the field
            stop = int(np.clip(high // self._finer + 1, start + 1, size // self._finer))
            window.append(slice(start * self._finer, stop * self._finer))
        columns, rows = window
        canvas = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        unit = max(uptake for _, uptake in shapes) / 255
        for outline, (_, uptake) in zip(outlines, shapes, strict=True):
            pixels = np.rint((outline - (columns.start, rows.start)) * 16).astype(
                np.int32
            )  # OpenCV's fixed point with 4 bits
            cv2.fillPoly(canvas, [pixels], round(uptake / unit), cv2.LINE_AA, 4)
        return canvas, unit, (rows, columns)

    def _passing(self, depth: float) -> float:
        return float(np.exp(-ATTENUATION * depth * self.patient.girth))

    def _blurred(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        height, width = layer.shape
        blurred = cv2.GaussianBlur(
            layer, (0, 0), sigma / self._pixel, borderType=cv2.BORDER_CONSTANT
        )
        return cv2.resize(
            blurred, (width // self._finer, height // self._finer), interpolation=cv2.INTER_AREA
        )
