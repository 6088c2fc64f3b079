"""Anatomy of bone-scan phantoms: outlines, pose, bones, soft tissue, uptake and lesions."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Outline = np.ndarray  # corners x 2
Shape = tuple[Outline, float]  # an outline and its uptake


def band_outline(
    points: Sequence[tuple[float, float]] | np.ndarray, widths: float | Sequence[float]
) -> Outline:
    """Return the outline of a band along a line, such as a long bone or a rib.

    Args:
        points: The line, `points x 2`, at least two.
        widths: Width of the band, one for all points or one per point.

    Returns:
        Outline of `2 * points x 2`.
    """
    line = np.asarray(points, float)
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * (-1, 1) * np.broadcast_to(widths, len(line))[:, None] / 2
    return np.concatenate([line + across, (line - across)[::-1]])


def ellipse(x: float, y: float, across: float, down: float, turn: float = 0.0) -> Outline:
    """Return an ellipse, `24 x 2`.

    The semi-axes are `across` and `down`, rotated from x towards y by `turn` radians.
    """
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    u, v = across * np.cos(angle), down * np.sin(angle)
    return np.stack(
        [x + np.cos(turn) * u - np.sin(turn) * v, y + np.sin(turn) * u + np.cos(turn) * v], 1
    )


def irregular_ellipse(
    random: np.random.Generator,
    middle: tuple[float, float],
    across: float,
    down: float,
    turn: float = 0.0,
    roughness: float = 0.2,
) -> Outline:
    """Return an irregular ellipse, `40 x 2`.

    Args:
        random: Source of the irregularity.
        middle: x and y of its center in cm.
        across: Semi-axis along x in cm, before the rotation.
        down: Semi-axis along y in cm, before the rotation.
        turn: Rotation in radians.
        roughness: Relative deviation of the radius.
    """
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = [
        random.normal(0, 1 / order) * np.cos(order * angle + random.uniform(0, 2 * np.pi))
        for order in (2, 3, 4, 5)
    ]
    radius = np.clip(1 + roughness * np.sum(waves, 0), 0.4, 1.7)
    u, v = across * radius * np.cos(angle), down * radius * np.sin(angle)
    return np.stack(
        [
            middle[0] + np.cos(turn) * u - np.sin(turn) * v,
            middle[1] + np.sin(turn) * u + np.cos(turn) * v,
        ],
        1,
    )


def mirror_outline(outline: Outline) -> Outline:
    """Mirror an outline to the patient's other side."""
    return outline * (-1, 1)


@dataclass(frozen=True)
class BonePatient:
    """Properties of a patient that are the same for both heads of the camera.

    Attributes:
        stature: Crown to heel in cm; the anatomy is given for 170.
        frame: Width of the skeleton, 1.05 is average.
        girth: Depth of the tissue in front of and behind the bones, 1 is average.
        male: True for a male, which determines the position of the urethra.
        top: Distance from the field's upper edge to the crown in cm.
        aside: Shift of the body from the middle of the field in cm, to the right of the anterior
            image.
        bend: Sideways bend of the spine in cm.
        tilt: Tilt of the head in radians.
        angles: Angle of each part of a limb in radians, outwards positive, as "thigh_left"; of a
            child towards its parent.
        axial: Uptake of skull, spine, ribs and pelvis, 1 is average.
        limbs: Uptake of the limbs.
        joints: Uptake of the limbs' joints.
        soft: Uptake of soft tissue.
        counts: Expected counts of the skeleton and the soft tissue in the anterior view.
    """

    stature: float
    frame: float
    girth: float
    male: bool
    top: float
    aside: float
    bend: float
    tilt: float
    angles: dict[str, float]
    axial: float
    limbs: float
    joints: float
    soft: float
    counts: float


def sample_patient(random: np.random.Generator, counts: tuple[float, float]) -> BonePatient:
    """Sample an adult; stature, girth, pose and uptake vary.

    Args:
        random: Source of everything random.
        counts: Range of the counts of skeleton and soft tissue in the anterior view, sampled
            uniformly on a log scale.
    """
    male = bool(random.random() < 0.5)
    stature = float(np.clip(random.normal(169 if male else 158, 7.5), 140, 190))
    angles: dict[str, float] = {}
    for side in ("left", "right"):
        angles |= {
            f"arm_{side}": random.normal(-0.015, 0.025),
            f"forearm_{side}": random.normal(-0.02, 0.05),
        }
        angles |= {
            f"thigh_{side}": random.normal(0.0, 0.018),
            f"shin_{side}": random.normal(0.0, 0.015),
        }
        angles[f"foot_{side}"] = random.normal(0.1, 0.22)
    return BonePatient(
        stature=stature,
        frame=float(np.clip(random.normal(1.06 if male else 1.03, 0.045), 0.93, 1.15)),
        girth=float(np.clip(random.normal(1.0, 0.14), 0.7, 1.4)),
        male=male,
        top=random.uniform(5, 17),
        aside=random.normal(0, 0.8),
        bend=random.normal(0, 0.35) + random.choice([0.0, 1.5], p=[0.88, 0.12]) * random.normal(),
        tilt=random.normal(0, 0.05),
        angles=angles,
        axial=random.lognormal(0, 0.12),
        limbs=random.lognormal(-0.4, 0.25),
        joints=random.lognormal(-0.3, 0.28),
        soft=random.lognormal(0.15, 0.4),
        counts=float(np.exp(random.uniform(*np.log(counts)))),
    )


FIELD_OF_VIEW = (
    226.0  # height of a whole-body scan in cm: 1024 rows of 2.21 mm; the width is a quarter of it
)
JOINTS: dict[
    str, tuple[str, tuple[float, float]]
] = {  # for each part: the part that carries it, and the point that it rotates about
    "arm": ("", (16.8, 33.5)),
    "forearm": ("arm", (20.5, 60.0)),
    "thigh": ("", (9.0, 90.0)),
    "shin": ("thigh", (9.5, 130.5)),
    "foot": ("shin", (9.5, 167.0)),
    "head": ("", (0.0, 24.0)),
}


@dataclass(frozen=True)
class LesionSite:
    """Part of a bone where a lesion may be.

    Attributes:
        bone: Name of the bone, such as "rib".
        part: Part of the body that it moves with, such as "thigh_left".
        x: x of its center in cm of the body.
        y: y of its center in cm of the body.
        turn: Direction along the bone, from x towards y, in radians.
        width: Width of the bone in cm.
        front: Tissue in front of it in cm.
        back: Tissue behind it in cm.
    """

    bone: str
    part: str
    x: float
    y: float
    turn: float
    width: float
    front: float
    back: float


def to_pose(patient: BonePatient, part: str, points: Outline) -> Outline:
    """Map points of the body to the anterior view.

    Args:
        patient: The patient.
        part: Part of the body, such as "trunk", "head" or "shin_left".
        points: `points x 2` in cm of a body of 170 cm.

    Returns:
        `points x 2` in cm from the field's upper left corner.
    """
    name, _, side = part.partition("_")
    sign = -1 if side == "right" else 1
    while name in JOINTS:
        parent, joint = JOINTS[name]
        middle = np.array(joint) * (sign, 1)
        angle = patient.tilt if name == "head" else -sign * patient.angles[f"{name}_{side}"]
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (points - middle) @ turn.T + middle
        name = parent
    x, y = points[:, 0], points[:, 1]
    along = np.clip((y - 20) / 58, 0, 1)  # position along the spine, whose ends do not move
    x = x * patient.frame + patient.bend * np.sin(np.pi * along) ** 2 * np.exp(-((x / 9) ** 2))
    scale = patient.stature / 170
    return np.stack([x * scale + patient.aside + FIELD_OF_VIEW / 8, y * scale + patient.top], 1)


VIEWS = ("ANT", "POST")
# attenuation per cm of tissue at 140 keV; less than the narrow beam's 0.15, because the energy
# window passes some scatter
ATTENUATION = 0.11
DEEP_TISSUE = 8.0  # cm of tissue beyond which a source is blurred as a deep one
# Gaussian sigma in cm, of shallow and deep sources (9 and 14 mm FWHM of a high-resolution
# collimator), and of haze
BLUR_SIGMAS = (0.4, 0.6, 1.3)
# scattered counts per unscattered count, and the Gaussian sigma of their displacement in cm
SCATTER, SCATTER_REACH = (0.12, 4.0)
MAX_PIXEL_SIZE = 0.3  # largest pixel in cm while shapes are rendered


class GammaCamera:
    """Gamma camera that collects a patient's uptake as both of its heads see it.

    Both views are kept in the anterior orientation; `simulate_examination` mirrors the
    posterior one.

    Attributes:
        random: Source of the differences between the sides of the body and between bones.
        patient: The patient.
        shape: Height and width of the images in pixels.
        sites: Sites where lesions may be, in the order in which the bones were added.
    """

    def __init__(self, random: np.random.Generator, patient: BonePatient, height: int) -> None:
        self.random, self.patient, self.shape = random, patient, (height, height // 4)
        self.sites: list[LesionSite] = []
        self._finer = max(1, int(np.ceil(FIELD_OF_VIEW / height / MAX_PIXEL_SIZE - 0.25)))
        self._pixel = FIELD_OF_VIEW / height / self._finer  # cm
        self._layers = np.zeros(
            (2, len(BLUR_SIGMAS), height * self._finer, height // 4 * self._finer), np.float32
        )  # view, depth

    def add(
        self, part: str, shapes: list[Shape], front: float, back: float, haze: bool = False
    ) -> None:
        """Add uptake to the body.

        Args:
            part: Part of the body, such as "trunk" or "shin_left".
            shapes: Outlines in the body's cm with their uptake; where two overlap the later one
                counts.
            front: Tissue in front of them in cm.
            back: Tissue behind them in cm.
            haze: True if it has no sharp border, as soft tissue has none.
        """
        drawn, unit, window = self._rasterize(part, shapes, 0)
        for view, depth in enumerate((front, back)):
            layer = self._layers[view, 2 if haze else int(depth > DEEP_TISSUE)][window]
            cv2.addWeighted(drawn, unit * self._transmission(depth), layer, 1, 0, layer, cv2.CV_32F)

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
                (outline if side == "left" else mirror_outline(outline), uptake * factor)
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
            bone: Name of the bone, such as "rib".
            part: Part of the body, such as "trunk" or "shin".
            places: x and y of each site in cm of the body; a site at x = 0 is not mirrored.
            turn: Direction along the bone, from x towards y, in radians.
            width: Width of the bone in cm.
            depth: Tissue in front of and behind it in cm.
        """
        for x, y in places:
            for side, sign in (("left", 1), ("right", -1))[: 1 if x == 0 else 2]:
                own = part if part in ("trunk", "head") else f"{part}_{side}"
                self.sites.append(
                    LesionSite(
                        bone, own, sign * x, y, turn if sign > 0 else np.pi - turn, width, *depth
                    )
                )

    def project_body(self) -> np.ndarray:
        """Return the projection of everything that was added, blurred and without scatter.

        Returns:
            float32 `2 x height x width`; the posterior view is not mirrored yet.
        """
        whole = np.zeros((2, *self.shape), np.float32)
        for image, view in zip(whole, self._layers, strict=True):
            for layer, sigma in zip(view, BLUR_SIGMAS, strict=True):
                image += self._blur(layer, sigma)
        return whole

    def project(self, part: str, shapes: list[Shape], front: float, back: float) -> np.ndarray:
        """Return the projection of shapes without adding them; see `add` and `project_body`."""
        drawn, unit, window = self._rasterize(part, shapes, round(4 * BLUR_SIGMAS[1] / self._pixel))
        whole = np.zeros((2, *self.shape), np.float32)
        small = tuple(slice(edge.start // self._finer, edge.stop // self._finer) for edge in window)
        for image, depth in zip(whole, (front, back), strict=True):
            image[small] = self._blur(
                drawn * np.float32(unit * self._transmission(depth)),
                BLUR_SIGMAS[int(depth > DEEP_TISSUE)],
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

    def to_pixels(self, part: str, points: Outline) -> np.ndarray:
        """Map points of the body to pixels of the anterior image.

        Args:
            part: Part of the body, such as "trunk" or "shin_left".
            points: `points x 2` in the body's cm.

        Returns:
            `points x 2`, x and y in pixels, edges counted from 0.
        """
        return to_pose(self.patient, part, points) / (self._pixel * self._finer)

    def _rasterize(
        self, part: str, shapes: list[Shape], margin: int
    ) -> tuple[np.ndarray, float, tuple[slice, slice]]:
        """Rasterise the shapes.

        Returns:
            The shapes as uint8, the uptake of one gray level, and the window (rows, columns) of the
            layers that holds the shapes and the margin.
        """
        outlines = [
            to_pose(self.patient, part, outline) / self._pixel - 0.5 for outline, _ in shapes
        ]
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

    def _transmission(self, depth: float) -> float:
        return float(np.exp(-ATTENUATION * depth * self.patient.girth))

    def _blur(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        height, width = layer.shape
        blurred = cv2.GaussianBlur(
            layer, (0, 0), sigma / self._pixel, borderType=cv2.BORDER_CONSTANT
        )
        return cv2.resize(
            blurred, (width // self._finer, height // self._finer), interpolation=cv2.INTER_AREA
        )


def draw_head(gantry: GammaCamera) -> None:
    """Draw skull, facial bones, jaw and cervical vertebrae.

    The skull's rim is brighter than its middle, because it is seen edge-on.
    """
    axial = gantry.patient.axial
    vault = ellipse(0, 9.6, 7.4, 9.4)
    gantry.add("head", [(vault, 0.36 * axial)], 8, 8)
    gantry.add(
        "head",
        [
            (
                np.concatenate(
                    [
                        vault,
                        vault[:1],
                        ellipse(0, 9.6, 6.0, 7.8)[::-1],
                        ellipse(0, 9.6, 6.0, 7.8)[-1:],
                    ]
                ),
                0.45 * axial,
            )
        ],
        6,
        6,
    )
    _draw_face(gantry, axial)
    gantry.add("head", [(ellipse(0, 16, 4.8, 2.2), 0.3 * axial)], 13, 3)  # occiput and base
    gantry.add("trunk", [(band_outline([(0, 17), (0, 28)], [3.4, 4.2]), 0.7 * axial)], 8, 4.5)
    gantry.add(
        "trunk",
        [
            (band_outline([(-1.6, y), (1.6, y)], 0.9), 0.25 * axial)
            for y in np.arange(18.5, 28, 1.5)
        ],
        7,
        4,
    )
    gantry.add(
        "trunk", [(band_outline([(0, 22.5), (0, 29)], [5.5, 4.0]), 0.2 * axial)], 1.5, 9
    )  # larynx and thyroid
    angle = np.linspace(-2.8, -0.35, 6)
    gantry.add_sites(
        "skull",
        "head",
        [(6.2 * np.cos(a), 9.6 + 8.0 * np.sin(a)) for a in angle if np.cos(a) > 0.1],
        0.9,
        2.4,
        (6, 6),
    )
    gantry.add_sites("skull", "head", [(3.0, 7.5), (2.5, 12.5)], 0.5, 3.0, (13, 4))
    gantry.add_sites("cervical spine", "trunk", [(0, 21.5), (0, 25.5)], 0, 3.2, (6, 5))
    gantry.add_sites("jaw", "head", [(3.8, 19.5), (1.8, 18.0)], 0.9, 1.6, (2, 10))


def _draw_face(gantry: GammaCamera, axial: float) -> None:
    gantry.add(
        "head",
        [(ellipse(0, 15.0, 5.6, 4.6), 0.16 * axial), (ellipse(0, 15.4, 1.9, 3.0), 0.4 * axial)],
        2.5,
        14,
    )
    gantry.add(
        "head", [(ellipse(side * 3.1, 16.2, 1.6, 1.3), 0.26 * axial) for side in (-1, 1)], 2, 14
    )  # cheeks
    rims = [(ellipse(side * 3.2, 12.7, 2.6, 2.2), 0.34 * axial) for side in (-1, 1)]
    sockets = [(ellipse(side * 3.2, 12.8, 1.8, 1.5), 0.0) for side in (-1, 1)]
    gantry.add("head", [*rims, *sockets], 2, 15)
    jaw = [
        (5.6, 14.5),
        (5.2, 18.2),
        (3.6, 20.8),
        (0, 22.0),
        (-3.6, 20.8),
        (-5.2, 18.2),
        (-5.6, 14.5),
    ]
    gantry.add("head", [(band_outline(jaw, 1.4), 0.36 * axial)], 4, 9)
    gantry.add(
        "head",
        [
            (
                band_outline(
                    [(2.8, 18.0), (1.6, 19.0), (0, 19.4), (-1.6, 19.0), (-2.8, 18.0)], 1.2
                ),
                0.34 * axial,
            )
        ],
        2,
        14,
    )  # teeth


THORACIC = 28.0 + np.array(
    [0.7, 2.7, 4.8, 7.0, 9.3, 11.6, 14.0, 16.5, 19.1, 21.8, 24.6, 27.5]
)  # y of the twelve vertebrae
LUMBAR = 58.7 + 3.8 * np.arange(5)
RIB_REACH = (
    6.0,
    8.8,
    11.0,
    12.3,
    13.0,
    13.6,
    14.0,
    14.1,
    13.8,
    13.2,
    12.4,
    9.0,
)  # x of each rib's outermost point
RIB_ANGLES = np.linspace(0, 1, 15)  # from the spine to the front end
RIB_PIECES = 7


def draw_trunk(gantry: GammaCamera) -> None:
    """Draw all bones of the trunk.

    Vertebrae are brightest from behind; the sternum is seen mainly from the front.
    """
    _draw_spine(gantry, gantry.patient.axial)
    _draw_ribs(gantry, gantry.patient.axial)
    _draw_sternum(gantry, gantry.patient.axial)
    _draw_girdle(gantry, gantry.patient.axial, gantry.patient.joints)
    _draw_pelvis(gantry, gantry.patient.axial)


def _draw_spine(gantry: GammaCamera, axial: float) -> None:
    ramp = 1 + gantry.random.uniform(-0.05, 0.3) * np.linspace(
        0, 1, 17
    )  # the lumbar vertebrae take up more in many
    for name, places, depth, width, height in (
        ("thoracic spine", THORACIC, (12.5, 5.0), 3.3, 2.0),
        ("lumbar spine", LUMBAR, (12.5, 5.5), 4.4, 3.2),
    ):
        size = np.linspace(0.8, 1, len(places)) if name[0] == "t" else np.ones(5)
        uptake = 1.15 * axial * ramp[: len(places)] * gantry.random.lognormal(0, 0.04, len(places))
        ramp = ramp[len(places) :]
        gantry.add(
            "trunk",
            [
                (
                    band_outline(
                        [(0, places[0] - height / 2), (0, places[-1] + height / 2)], width * 0.8
                    ),
                    0.75 * axial,
                )
            ],
            *depth,
        )
        bodies = [
            band_outline([(0, y - height * s / 2), (0, y + height * s / 2)], width * s)
            for y, s in zip(places, size, strict=True)
        ]
        gantry.add("trunk", list(zip(bodies, 0.6 * uptake, strict=True)), *depth)
        gantry.add(
            "trunk",
            [(ellipse(0, y + 0.4, 0.8, 1.0), u) for y, u in zip(places, 0.3 * uptake, strict=True)],
            depth[0] + 3,
            depth[1] - 2,
        )
        facets = [
            (ellipse(width * 0.55, y - height * 0.55, 0.9, 0.7), u)
            for y, u in zip(places, 0.3 * uptake, strict=True)
        ]
        gantry.add_pair("trunk", facets, depth[0] + 2, depth[1] - 1)
        gantry.add_sites(name, "trunk", [(0, y) for y in places], 0, width, depth)
        gantry.add_sites(
            name,
            "trunk",
            [(width * 0.35, y) for y in places],
            1.2,
            width * 0.7,
            (depth[0] + 1, depth[1] - 1),
        )
    gantry.add_sites(
        "facet joint", "trunk", [(2.3, y + 1.7) for y in LUMBAR[2:]], 1.3, 1.2, (14, 4.5)
    )


def rib_centerline(number: int) -> Outline:
    """Return the center line of a left rib from its vertebra to its front end, `15 x 2`.

    The last two ribs are short.
    """
    reach, top = RIB_REACH[number], THORACIC[number] - 0.6
    angle = RIB_ANGLES * (2.55 if number < 10 else 1.2)
    drop = 4.5 + 0.9 * min(number, 9)
    x = 1.8 + (reach - 1.8) * np.sin(angle) ** 0.85
    return np.stack(
        [x, top + drop * (1 - np.cos(angle)) / 1.83 - 0.8 * np.sin(angle) * (1 - RIB_ANGLES) * 2], 1
    )


def _draw_ribs(gantry: GammaCamera, axial: float) -> None:
    """Draw the ribs piece by piece, because the depth of the tissue changes along them."""
    lines, uptakes = (
        [rib_centerline(number) for number in range(12)],
        axial * gantry.random.lognormal(0, 0.06, 12),
    )
    for piece in range(RIB_PIECES):
        share = (piece + 0.5) / RIB_PIECES
        depth = (2.0 + 17 * (1 - share) ** 1.3, 2.0 + 17 * share**1.3)
        part = slice(2 * piece, 2 * piece + 3)
        level = 0.62 - 0.06 * share
        gantry.add_pair(
            "trunk",
            [
                (band_outline(line[part], 1.05), level * u)
                for line, u in zip(lines, uptakes, strict=True)
            ],
            *depth,
            uneven=0.03,
        )
        for line in lines[1:11]:
            (x, y), step = line[2 * piece + 1], line[2 * piece + 2] - line[2 * piece]
            gantry.add_sites(
                "rib",
                "trunk",
                [(float(x), float(y))],
                float(np.arctan2(step[1], step[0])),
                1.3,
                depth,
            )


def _draw_sternum(gantry: GammaCamera, axial: float) -> None:
    manubrium = np.array(
        [(-3.2, 33.0), (3.2, 33.0), (2.6, 35.2), (1.5, 37.6), (-1.5, 37.6), (-2.6, 35.2)]
    )
    corpus = band_outline([(0, 37.9), (0, 43), (0, 48.5), (0, 51.0)], [2.6, 3.0, 3.0, 1.0])
    gantry.add("trunk", [(manubrium, 0.7 * axial), (corpus, 0.6 * axial)], 2, 18)
    gantry.add_pair(
        "trunk", [(ellipse(2.7, 33.0, 1.2, 1.0), 0.35 * gantry.patient.joints)], 2, 17, uneven=0.15
    )  # sternoclavicular joint
    gantry.add_sites(
        "sternum", "trunk", [(0, y) for y in (34.8, 40, 43, 46, 48)], 1.57, 2.8, (2, 18)
    )
    gantry.add_sites("sternoclavicular joint", "trunk", [(2.7, 33.0)], 0, 1.6, (2, 17))


def _draw_girdle(gantry: GammaCamera, axial: float, joints: float) -> None:
    """Draw clavicles in front, scapulae behind, and the shoulders between them."""
    gantry.add_pair(
        "trunk",
        [(band_outline([(2.5, 32.8), (6.5, 31.2), (11, 30.9), (15.5, 30.4)], 1.2), 0.36 * axial)],
        2.5,
        10,
    )
    blade = np.array([(13.6, 33.2), (8.6, 34.0), (7.2, 37), (8.0, 46.5), (9.4, 46.3), (13.2, 38)])
    gantry.add_pair("trunk", [(blade, 0.16 * axial)], 16, 2.5)
    lateral, medial = (
        band_outline([(8.8, 46.5), (11.4, 41.5), (13.8, 36.4)], [1.6, 1.3, 1.8]),
        band_outline([(8.4, 46), (7.4, 37.5), (8.6, 33.8)], 0.9),
    )
    spine = band_outline([(8.2, 36.4), (12.5, 33.6), (16.3, 30.9)], [0.9, 1.2, 2.0])
    gantry.add_pair(
        "trunk", [(lateral, 0.4 * axial), (medial, 0.3 * axial), (spine, 0.42 * axial)], 14, 2.5
    )
    gantry.add_pair("trunk", [(ellipse(14.2, 34.6, 1.3, 2.3), 0.5 * joints)], 8, 6)
    gantry.add_pair(
        "trunk",
        [
            (ellipse(16.0, 31.0, 2.0, 1.0), 0.5 * joints),
            (ellipse(13.2, 33.0, 1.0, 1.0), 0.4 * joints),
        ],
        4,
        5,
        uneven=0.12,
    )
    gantry.add_sites(
        "scapula", "trunk", [(9.0, 45.0), (11.6, 41.0), (13.4, 37.0)], -1.1, 2.0, (14, 2.5)
    )
    gantry.add_sites("clavicle", "trunk", [(7, 31.2), (11, 30.9)], -0.1, 1.6, (2.5, 10))
    gantry.add_sites("shoulder", "trunk", [(16.0, 31.2), (15.2, 33.4)], 0, 2.4, (4, 5))


def _draw_pelvis(gantry: GammaCamera, axial: float) -> None:
    sacrum = np.array(
        [
            (-4.0, 75.3),
            (4.0, 75.3),
            (3.8, 79),
            (2.2, 84.5),
            (0.8, 88.5),
            (-0.8, 88.5),
            (-2.2, 84.5),
            (-3.8, 79),
        ]
    )
    gantry.add("trunk", [(sacrum, 0.85 * axial)], 14.5, 4.5)
    crest = [(4.6, 74.6), (7.2, 72.2), (10.6, 72.0), (13.2, 74.6), (13.7, 77.6)]
    wing = np.array([(4.2, 79.5), *crest, (11.6, 82.5), (10.8, 87), (7.2, 86.5), (5.6, 83)])
    gantry.add_pair("trunk", [(wing, 0.26 * axial)], 9, 8)
    gantry.add_pair(
        "trunk",
        [(band_outline([(5.2, 73.4), (7.6, 72.4), (10.6, 72.4), (12.8, 74.8)], 1.3), 0.36 * axial)],
        9,
        7,
    )
    gantry.add_pair(
        "trunk",
        [
            (
                band_outline(
                    [(13.0, 75.2), (13.0, 78.4), (11.0, 82.5), (9.2, 86.4)], [1.4, 1.9, 1.9, 2.4]
                ),
                0.66 * axial,
            )
        ],
        4,
        14,
    )
    gantry.add_pair(
        "trunk",
        [(band_outline([(5.3, 74.8), (4.2, 78.5), (4.6, 82.5)], [2.2, 2.8, 2.0]), 1.05 * axial)],
        15,
        5,
        uneven=0.08,
    )  # sacroiliac
    gantry.add_pair(
        "trunk",
        [
            (
                band_outline(
                    [(4.8, 82.5), (6.6, 85.6), (8.2, 89.5), (6.6, 94.5)], [2.0, 2.2, 3.0, 2.8]
                ),
                0.6 * axial,
            )
        ],
        13,
        7,
    )
    gantry.add_pair(
        "trunk",
        [(band_outline([(8.4, 88.6), (5.0, 91.2), (1.3, 92.4)], [2.4, 1.5, 2.2]), 0.45 * axial)],
        4,
        14,
    )
    gantry.add_pair(
        "trunk",
        [(band_outline([(1.2, 93.4), (3.6, 96.4), (6.0, 96.2)], [1.4, 1.4, 2.2]), 0.42 * axial)],
        7,
        10,
    )
    gantry.add_sites("sacrum", "trunk", [(0, 80), (0, 84), (2.2, 78.5)], 0.4, 3.4, (14.5, 4.5))
    gantry.add_sites(
        "ilium", "trunk", [(12.8, 77.5), (11.0, 82.5), (9.8, 73.0)], -1.0, 2.4, (4, 13)
    )
    gantry.add_sites("ilium", "trunk", [(5.6, 75.5), (5.4, 83.4), (7.6, 78.0)], 1.3, 2.6, (14, 5))
    gantry.add_sites(
        "ischium or pubis", "trunk", [(6.4, 94.8), (7.2, 88.5), (3.8, 91.8)], 1.2, 2.2, (9, 9)
    )


def draw_limbs(gantry: GammaCamera) -> None:
    """Draw arms beside the body and legs slightly apart; joints are brighter than shafts."""
    limbs, joints = gantry.patient.limbs, gantry.patient.joints
    _draw_arms(gantry, limbs, joints)
    _draw_thighs(gantry, limbs, joints)
    _draw_shins(gantry, limbs, joints)
    _draw_feet(gantry, limbs, joints)


def _draw_arms(gantry: GammaCamera, limbs: float, joints: float) -> None:
    gantry.add_pair("arm", [(ellipse(17.0, 33.2, 2.5, 2.6), 0.6 * joints)], 5, 5.5, uneven=0.08)
    gantry.add_pair(
        "arm",
        [
            (
                band_outline(
                    [(17.2, 33), (17.7, 38), (19.2, 50), (20.3, 58)], [3.4, 2.2, 1.9, 2.4]
                ),
                0.33 * limbs,
            )
        ],
        5,
        5,
    )
    elbow = [
        (ellipse(20.5, 59.9, 2.5, 2.6), 0.3 * joints),
        (ellipse(20.5, 59.8, 1.8, 1.4), 0.5 * joints),
    ]
    gantry.add_pair("forearm", elbow, 3.5, 3.5, uneven=0.15)
    for inner, outer in ((20.0, 21.2), (21.4, 22.6)):  # ulna and radius
        gantry.add_pair(
            "forearm",
            [
                (
                    band_outline(
                        [(inner, 60.5), ((inner + outer) / 2 + 0.1, 73), (outer, 83.5)],
                        [1.5, 1.1, 1.4],
                    ),
                    0.26 * limbs,
                )
            ],
            3,
            3,
        )
    wrist = [
        (ellipse(22.0, 84.5, 2.1, 1.5), 0.36 * joints),
        (ellipse(22.2, 87.0, 1.8, 1.6), 0.42 * joints),
    ]
    gantry.add_pair("forearm", wrist, 2.5, 2.5, uneven=0.12)
    fingers = [
        band_outline(
            [
                (21.2 + 0.75 * i, 88),
                (20.9 + 1.1 * i, 94),
                (21.0 + 0.95 * i, 99.5 - 0.6 * abs(i - 1.6)),
            ],
            [0.8, 0.75, 0.5],
        )
        for i in range(4)
    ]
    palm = band_outline([(22.2, 87), (22.6, 94)], [3.0, 3.8])
    thumb = band_outline([(20.8, 87), (19.4, 90), (19.0, 93.5)], 0.8)
    gantry.add_pair(
        "forearm",
        [(palm, 0.2 * limbs), *((finger, 0.34 * limbs) for finger in [*fingers, thumb])],
        2,
        2,
        uneven=0.1,
    )
    gantry.add_sites(
        "humerus", "arm", [(17.1, 35), (18.0, 41), (18.9, 48), (19.7, 54)], 1.45, 2.4, (5, 5)
    )
    gantry.add_sites("shoulder", "arm", [(17.2, 32.6)], 0, 2.4, (5, 5))
    gantry.add_sites("elbow", "forearm", [(20.5, 60.0)], 0, 2.2, (3.5, 3.5))
    gantry.add_sites("wrist", "forearm", [(22.1, 86.0), (20.2, 88.5)], 0, 1.6, (2, 2))


def _draw_thighs(gantry: GammaCamera, limbs: float, joints: float) -> None:
    gantry.add_pair(
        "thigh",
        [
            (ellipse(9.0, 90.0, 2.5, 2.5), 0.5 * joints),
            (band_outline([(9, 90), (12.5, 92.5)], [3.4, 3.4]), 0.5 * limbs),
        ],
        7,
        9,
    )
    gantry.add_pair(
        "thigh",
        [(band_outline([(13.4, 90.2), (13.2, 93.5), (12.2, 97.5)], [2.4, 3.6, 3.0]), 0.55 * limbs)],
        8,
        8,
    )
    gantry.add_pair(
        "thigh",
        [
            (
                band_outline(
                    [(12.4, 95), (11.6, 106), (10.2, 119), (9.5, 128)], [3.1, 2.5, 2.4, 5.0]
                ),
                0.46 * limbs,
            )
        ],
        7,
        7,
    )
    knee = [(ellipse(9.5, 128.2, 3.9, 3.4), 0.46 * joints)]
    knee += [(ellipse(9.5 + x, 128.4, 1.6, 1.9), 0.58 * joints) for x in (-2.1, 2.1)]
    gantry.add_pair("thigh", knee, 5, 5.5, uneven=0.08)
    gantry.add_pair(
        "thigh", [(ellipse(9.5, 127.2, 2.2, 2.3), 0.32 * joints)], 1, 11, uneven=0.2
    )  # patella
    gantry.add_sites(
        "femur",
        "thigh",
        [(12.8, 93), (12.2, 99), (11.6, 106), (10.8, 113), (10.1, 120)],
        1.7,
        3.0,
        (7, 7),
    )
    gantry.add_sites("hip", "thigh", [(9.0, 89.0)], 0, 2.6, (7, 9))
    gantry.add_sites("knee", "thigh", [(7.2, 128.6), (11.8, 128.6), (9.5, 127.2)], 0, 2.4, (4, 6))


def _draw_shins(gantry: GammaCamera, limbs: float, joints: float) -> None:
    plateau = [
        (
            band_outline(
                [(9.5, 130.8), (9.5, 132.5), (9.4, 135), (9.3, 139)], [6.8, 6.8, 4.6, 2.6]
            ),
            0.5 * joints,
        )
    ]
    gantry.add_pair("shin", plateau, 5, 5, uneven=0.08)
    gantry.add_pair(
        "shin",
        [
            (
                band_outline(
                    [(9.4, 133), (9.3, 140), (9.2, 150), (9.2, 163)], [4.2, 2.8, 2.2, 2.6]
                ),
                0.42 * limbs,
            )
        ],
        3,
        7,
    )
    gantry.add_pair(
        "shin",
        [(band_outline([(12.4, 134), (12.0, 150), (11.8, 166)], [1.7, 1.0, 1.5]), 0.26 * limbs)],
        5,
        5,
    )
    gantry.add_pair(
        "shin",
        [
            (ellipse(9.6, 165.2, 2.5, 2.3), 0.45 * joints),
            (ellipse(11.9, 166.2, 1.0, 1.6), 0.4 * joints),
        ],
        3,
        3.5,
        uneven=0.12,
    )
    gantry.add_sites("tibia", "shin", [(9.4, 139), (9.2, 147), (9.2, 155)], 1.6, 2.4, (3, 7))
    gantry.add_sites("knee", "shin", [(7.4, 132.4), (11.6, 132.4)], 0, 2.2, (5, 5))
    gantry.add_sites("ankle", "shin", [(9.6, 166.4)], 0, 2.4, (3, 3.5))


def _draw_feet(gantry: GammaCamera, limbs: float, joints: float) -> None:
    """Draw the feet with toes down and outwards, as feet lie on the table."""
    gantry.add_pair(
        "foot",
        [(band_outline([(9.5, 167), (10.0, 170.5), (11.2, 174)], [4.4, 5.0, 5.6]), 0.42 * joints)],
        2.5,
        4,
        uneven=0.12,
    )
    gantry.add_pair(
        "foot", [(ellipse(9.6, 170.0, 2.2, 2.6), 0.4 * joints)], 5, 1.5, uneven=0.12
    )  # heel
    toes = [
        (band_outline([(9.4 + 1.2 * i, 173), (9.8 + 1.5 * i, 177.5 - 0.5 * i)], 0.9), 0.32 * limbs)
        for i in np.arange(5)
    ]
    gantry.add_pair("foot", toes, 2, 2, uneven=0.12)
    gantry.add_sites(
        "foot", "foot", [(10.4, 171.5), (10.0, 176.0), (9.6, 169.5)], 0.3, 2.0, (2.5, 3)
    )


HALF_TORSO_OUTLINE = np.array(
    [
        (4.5, 24),
        (5.5, 28),
        (12, 30),
        (16.5, 31.5),
        (16.5, 38),
        (15, 48),
        (14, 58),
        (14.2, 66),
        (16, 76),
        (17.5, 90),
        (17, 97),
        (0, 99),
    ]
)
LIMB_OUTLINES = {  # the line in it, its widths, uptake and depth
    "arm": ([(17, 31), (17.8, 42), (20.5, 60)], [7, 8, 6.5], 0.10, 4),
    "forearm": ([(20.5, 59), (21.2, 68), (22, 85), (22.4, 97)], [6.5, 7, 4.6, 5], 0.09, 3),
    "thigh": ([(9.6, 90), (10, 104), (9.6, 120), (9.5, 131)], [15, 14.5, 11, 9.5], 0.15, 7),
    "shin": ([(9.5, 130), (9.8, 141), (9.4, 156), (9.5, 167)], [9.5, 10.5, 7, 5.5], 0.12, 5),
    "foot": ([(9.5, 166), (10.5, 171), (12, 178)], [5.5, 6.5, 6], 0.08, 3),
}


def draw_soft_tissue(gantry: GammaCamera) -> None:
    """Draw muscle, fat and blood around the bones, and the liver, scaled with the body's girth."""
    soft, stout = gantry.patient.soft * gantry.patient.girth, 0.75 + 0.25 * gantry.patient.girth
    half = HALF_TORSO_OUTLINE * (stout, 1)
    torso = np.concatenate([half, half[::-1] * (-1, 1)])
    gantry.add("trunk", [(torso, 0.16 * soft)], 8, 8, haze=True)
    gantry.add(
        "trunk",
        [(ellipse(0, 44, 9, 9), 0.05 * soft), (ellipse(0, 86, 15, 12), 0.09 * soft)],
        8,
        8,
        haze=True,
    )
    gantry.add(
        "trunk",
        [(ellipse(-6.5, 55, 6.5, 5), 0.1 * soft * gantry.random.uniform(0, 1.5))],
        6,
        8,
        haze=True,
    )  # liver
    gantry.add("head", [(ellipse(0, 11, 8.4, 11.2), 0.11 * soft)], 8, 8, haze=True)
    for part, (line, widths, uptake, depth) in LIMB_OUTLINES.items():
        gantry.add_pair(
            part,
            [(band_outline(line, [stout * width for width in widths]), uptake * soft)],
            depth,
            depth,
            haze=True,
        )


WORN_JOINT_WEIGHTS = {
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
    gantry: GammaCamera, random: np.random.Generator, urine: float = 1.0
) -> list[np.ndarray]:
    """Draw a patient's hot spots, after the bones.

    Args:
        gantry: Camera with the patient.
        random: Source of everything random.
        urine: Factor of the tracer in bladder, kidneys and spilt urine, and at the injection site;
            1 as in real scans. Worn joints stay as they are.

    Returns:
        Projection of each spot for both heads, float32 `2 x height x width`.
    """
    spots, worn = (
        [_draw_bladder(gantry, random), *_draw_kidneys(gantry, random)],
        _draw_worn_joints(gantry, random),
    )
    if random.random() < 0.2:
        spots.append(_draw_injection_site(gantry, random))
    for _ in range(random.choice([0, 1, 2, 3], p=[0.62, 0.2, 0.12, 0.06])):
        spots.append(_draw_urine(gantry, random))
    if random.random() < 0.04:  # a bag or a bottle beside the thigh
        place = (random.uniform(-14, 14), random.uniform(101, 125))
        spots.append(
            gantry.project(
                "trunk",
                [
                    (
                        irregular_ellipse(random, place, random.uniform(1.5, 3.5), 1.6, 0.3),
                        random.uniform(8, 40),
                    )
                ],
                0,
                16,
            )
        )
    return [*(urine * spot for spot in spots), *worn]


def _draw_bladder(gantry: GammaCamera, random: np.random.Generator) -> np.ndarray:
    middle = (random.normal(0, 0.6), 89 + random.normal(0, 0.7))
    if random.random() < 0.15:  # a catheter has emptied it
        return gantry.project(
            "trunk", [(irregular_ellipse(random, middle, 1.0, 0.8), random.uniform(0.8, 3))], 6, 14
        )
    across, down = random.uniform(1.6, 4.4), random.uniform(1.2, 3.2)
    uptake = float(np.clip(random.lognormal(np.log(3.2), 0.85), 0.7, 30))
    shapes: list[Shape] = [
        (ellipse(*middle, across, down), 0.6 * uptake),
        (ellipse(*middle, 0.7 * across, 0.7 * down), uptake),
    ]
    return gantry.project("trunk", shapes, 5.5, 14.5)


def _draw_kidneys(gantry: GammaCamera, random: np.random.Generator) -> list[np.ndarray]:
    uptake, spots = random.lognormal(np.log(0.75), 0.45), []
    for side, y in ((-1, 60.3), (1, 59.2)):  # the right one lies lower
        shapes = [
            (ellipse(side * 5.9, y, 2.4, 4.9, -side * 0.22), uptake * random.lognormal(0, 0.12))
        ]
        if random.random() < 0.2:  # urine in the pelvis of the kidney
            shapes.append(
                (
                    irregular_ellipse(random, (side * 5.0, y), 0.9, 1.5),
                    uptake * random.uniform(2, 6),
                )
            )
        spots.append(gantry.project("trunk", shapes, 16, 6))
    return spots


def _draw_injection_site(gantry: GammaCamera, random: np.random.Generator) -> np.ndarray:
    """Draw the injection site at the elbow, wrist or back of the hand of one arm."""
    side, (x, y) = (
        random.choice([-1, 1]),
        ((20.2, 58.5), (21.6, 83.0), (22.4, 91.0))[random.choice(3, p=[0.5, 0.2, 0.3])],
    )
    size, uptake = random.uniform(0.4, 1.3), random.lognormal(np.log(5), 0.8)
    vein = (
        [(irregular_ellipse(random, (side * x, y - size * 2), 0.4, size * 3, 0.1), 0.2 * uptake)]
        if random.random() < 0.3
        else []
    )
    part = "forearm_left" if side > 0 else "forearm_right"
    return gantry.project(
        part,
        [
            *vein,
            (irregular_ellipse(random, (side * x, y), size, size * random.uniform(1, 1.8)), uptake),
        ],
        1,
        4,
    )


def _draw_urine(gantry: GammaCamera, random: np.random.Generator) -> np.ndarray:
    """Draw urine in the urethra, or on the skin or clothes of the thighs."""
    uptake = random.lognormal(np.log(1.5), 0.7)
    if random.random() < 0.5:
        place = (random.normal(0, 0.5), 98.0 if gantry.patient.male else 96.0)
        return gantry.project(
            "trunk",
            [
                (
                    irregular_ellipse(
                        random, place, 0.6, random.uniform(0.6, 1.8), random.normal(0, 0.3)
                    ),
                    uptake,
                )
            ],
            3,
            14,
        )
    place = (random.normal(0, 5), random.uniform(97, 114))
    return gantry.project(
        "trunk",
        [
            (
                irregular_ellipse(
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


def _draw_worn_joints(gantry: GammaCamera, random: np.random.Generator) -> list[np.ndarray]:
    """Draw arthrosis and inflamed teeth, many of them in some patients."""
    names, weights = list(WORN_JOINT_WEIGHTS), np.array(list(WORN_JOINT_WEIGHTS.values()))
    spots = []
    for name in random.choice(
        names, size=random.poisson(random.gamma(2, 1.2)), p=weights / weights.sum()
    ):
        sites = [site for site in gantry.sites if site.bone == name]
        site = sites[random.integers(len(sites))]
        size = site.width * random.uniform(0.35, 0.7)
        shape = irregular_ellipse(
            random, (site.x, site.y), size, size * random.uniform(0.5, 1.0), site.turn
        )
        spots.append(
            gantry.project(
                site.part, [(shape, random.lognormal(np.log(0.55), 0.55))], site.front, site.back
            )
        )
    return spots


BONE_WEIGHTS = {
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
BONE_WEIGHTS |= {
    "ischium or pubis": 4,
    "humerus": 4,
    "cervical spine": 3,
    "clavicle": 2,
    "tibia": 1,
}
LESION_COUNT_PROBABILITIES = (
    0.26,
    0.2,
    0.16,
    0.12,
    0.09,
    0.07,
    0.06,
    0.04,
)  # chances of 1 to 8 lesions
MIN_DISTANCE = 3.5  # smallest distance in cm between the centers of two lesions of a patient


@dataclass(frozen=True)
class LesionConfig:
    """Parameters shared by all lesions.

    Attributes:
        uptake: Factor of the uptake; 1 ranges from subtle to hot, as in real scans.
        extent: Factor of the diameters; 1 for about 1.5 to 6.5 cm.
    """

    uptake: float = 1.0
    extent: float = 1.0


def draw_lesions(
    gantry: GammaCamera, random: np.random.Generator, lesion_config: LesionConfig
) -> list[np.ndarray]:
    """Draw a patient's lesions, after the bones.

    Args:
        gantry: Camera with the patient.
        random: Source of everything random.
        lesion_config: Uptake and size of the lesions.

    Returns:
        Projection of each lesion for both heads, float32 `2 x height x width`.
    """
    lesions: list[np.ndarray] = []
    taken: list[LesionSite] = []
    for _ in range(
        int(random.choice(len(LESION_COUNT_PROBABILITIES), p=LESION_COUNT_PROBABILITIES)) + 1
    ):
        site = _sample_site(gantry, random, taken)
        taken.append(site)
        lesions.append(
            gantry.project(
                site.part, _lesion_shapes(random, site, lesion_config), site.front, site.back
            )
        )
    return lesions


def _sample_site(
    gantry: GammaCamera, random: np.random.Generator, taken: list[LesionSite]
) -> LesionSite:
    """Sample a bone by BONE_WEIGHTS, and a site in it away from other lesions if possible."""
    names, weights = list(BONE_WEIGHTS), np.array(list(BONE_WEIGHTS.values()))
    bone = random.choice(names, p=weights / weights.sum())
    sites = [site for site in gantry.sites if site.bone == bone]
    free = [
        site
        for site in sites
        if all(np.hypot(site.x - other.x, site.y - other.y) > MIN_DISTANCE for other in taken)
    ] or sites
    return free[random.integers(len(free))]


def _lesion_shapes(
    random: np.random.Generator, site: LesionSite, lesion_config: LesionConfig
) -> list[Shape]:
    """Return an irregular spot along the bone with one to three cores.

    A thick lesion is brighter than a thin one of the same tissue.
    """
    along = float(np.clip(random.lognormal(np.log(1.15), 0.42), 0.55, 2.6))
    across = min(along * random.uniform(0.55, 1.0), 0.6 * site.width)
    level = (
        lesion_config.uptake
        * across**0.5
        * float(np.clip(random.lognormal(np.log(1.1), 0.5), 0.4, 3.0))
    )
    along, across = lesion_config.extent * along, lesion_config.extent * across
    x, y = np.array([site.x, site.y]) + random.normal(0, 0.12, 2) * site.width
    cos, sin = np.cos(site.turn), np.sin(site.turn)
    shapes = [(irregular_ellipse(random, (x, y), along, across, site.turn), 0.7 * level)]
    for _ in range(random.integers(1, 4)):
        u, v = random.normal(0, 0.35, 2) * (along, across)
        core = irregular_ellipse(
            random,
            (x + cos * u - sin * v, y + sin * u + cos * v),
            0.5 * along,
            0.5 * across,
            site.turn,
        )
        shapes.append((core, level * random.uniform(0.8, 1.2)))
    return shapes
