"""Frontal chest radiographs with several, at times overlapping findings, each with its mask."""

from collections.abc import Collection
from copy import copy
from dataclasses import dataclass

import cv2
import numpy as np

from datamodules.phantoms.chest_canvas import SIDES
from datamodules.phantoms.chest_collapse import collapsed
from datamodules.phantoms.chest_film import acquire, beam
from datamodules.phantoms.chest_patient import Patient
from datamodules.phantoms.chest_pneumothorax import draw_area
from datamodules.phantoms.chest_shading import ball, soften
from datamodules.phantoms.chest_shadows import Chest

KINDS = (
    "Cardiomegaly",
    "Consolidation",
    "Effusion",
    "Mass",
    "Nodule",
    "Pneumothorax",
)  # as ChestX-Det spells them
FEWEST = 6  # pixels of a finding


@dataclass(frozen=True)
class Film:
    """A drawn radiograph.

    Attributes:
        image: uint8 `height x width`.
        findings: Kind and uint8 0/1 `height x width` mask of each, in one piece and without holes.
    """

    image: np.ndarray
    findings: list[tuple[str, np.ndarray]]


class _Overlay:
    """Chest under construction: what each finding adds to it, and where."""

    def __init__(
        self,
        chest: Chest,
        random: np.random.Generator,
        lungs: np.ndarray,
        heart: np.ndarray,
        contrast: float,
    ) -> None:
        self.lost, self.vessels = chest.crowding(), chest.vessels()
        self.chest, self.random, self.contrast = copy(chest), random, contrast
        self.chest.random = random
        self.lungs, self.heart = lungs, heart
        self.air = lungs * (1 - 0.9 * heart)
        self.solid: np.ndarray = np.zeros(chest.shape, np.float32)
        self.findings: list[tuple[str, np.ndarray]] = []

    def cardiomegaly(self) -> None:
        """Outline the heart, which is drawn large already, without the great vessels above it."""
        kernel = cv2.getStructuringElement(
            cv2.MORPH_ELLIPSE, (2 * round(2.3 * self.chest.scale) + 1,) * 2
        )  # wider than they are
        opened = cv2.morphologyEx((self.heart > 0.3).astype(np.uint8), cv2.MORPH_OPEN, kernel)
        self._outline("Cardiomegaly", opened > 0, parts=1)

    def pneumothorax(self) -> None:
        """Add air beside a collapsed lung; drawn first, it displaces only vessels and haze."""
        side = int(self.random.choice(SIDES))
        field = (self.lungs > 0.25) & (self.heart < 0.5) & (side * self.chest.x > 0)
        collapse = collapsed(
            self.chest, self.random, field, side, max(draw_area(self.random), 0.01)
        )
        self.lost = self.lost * (1 - collapse.air) + self.contrast * (
            0.1 * collapse.lung - 0.05 * collapse.air
        )
        self.vessels = (
            self.vessels * (1 - collapse.air)
            + self.contrast * self.random.uniform(0.05, 0.11) * collapse.line
        )
        self._outline("Pneumothorax", collapse.air > 0.5)

    def consolidation(self) -> None:
        """Add patches in the lungs and behind the heart."""
        lost = self.chest.opacity(self.air)
        self.lost = np.maximum(self.lost, lost)
        self._outline(
            "Consolidation", (soften(lost, 0.3 * self.chest.scale) > 0.22) & (self.lungs > 0.3)
        )

    def effusion(self) -> None:
        """Add fluid in the costophrenic angles."""
        lost = self.chest.effusion()
        self.lost = np.maximum(self.lost, lost)
        self._outline("Effusion", (lost > 0.3) & (self.lungs > 0.3))

    def mass(self) -> None:
        """Add one round shadow of 3.2 to 7 cm."""
        self._ball("Mass", self.random.uniform(1.6, 3.5), self.random.uniform(0.12, 0.22))

    def nodule(self) -> None:
        """Add 1 to 3 round shadows below 3 cm."""
        for _ in range(self.random.integers(1, 4)):
            self._ball("Nodule", self.random.uniform(0.5, 1.4), self.random.uniform(0.06, 0.13))

    def _ball(self, kind: str, radius: float, strength: float) -> None:
        x, y = self.chest.somewhere(self.air > 0.6)
        wobble = 1 + 0.06 * self.chest.noise(radius)
        distance = (
            self.chest.distance(
                x, y, radius, radius * self.random.uniform(0.8, 1), self.random.uniform(0, np.pi)
            )
            * wobble
        )
        self.solid += self.contrast * strength * ball(distance)
        self._outline(kind, distance < 0.95, parts=1)

    def _outline(self, kind: str, where: np.ndarray, parts: int = 9) -> None:
        """Add the largest `parts` pieces as findings, largest first; tiny pieces are left out."""
        _, labels, about, _ = cv2.connectedComponentsWithStats(
            where.astype(np.uint8), connectivity=4
        )
        sizes = about[1:, cv2.CC_STAT_AREA]
        for part in np.argsort(-sizes)[:parts]:
            if sizes[part] >= max(FEWEST, 0.05 * sizes.max()):
                self.findings.append((kind, _filled(labels == part + 1)))


def draw_overlapping(
    random: np.random.Generator,
    height: int,
    width: int,
    patient: Patient,
    kinds: Collection[str] = (),
    contrast: float = 1.0,
) -> Film:
    """Draw one image of a patient in its own pose, breath and exposure.

    Args:
        random: Source of everything that varies between images of one patient. The findings
            are sampled from a child of it, so that without them everything else of the same seed
            stays as it is.
        height: Of the image in pixels.
        width: Of the image in pixels.
        patient: Whose image it is.
        kinds: Some of KINDS.
        contrast: Of the faint kinds: masses, nodules and pneumothoraces; more compensates for few
            pixels.

    Raises:
        ValueError: a kind that is none of KINDS.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are none of {KINDS}")
    (of_findings,) = random.spawn(1)
    chest = Chest(random, height, width, patient)
    body, heart, lungs = chest.body(), chest.heart("Cardiomegaly" in kinds), chest.lungs()
    drawn = _Overlay(chest, of_findings, lungs, heart, contrast)
    for kind in ("Pneumothorax", *(kind for kind in KINDS if kind != "Pneumothorax")):
        if kind in kinds:
            getattr(drawn, kind.lower())()
    signal = body + 0.12 * heart + chest.skeleton() + chest.soft_tissue() - chest.airway()
    signal += (
        drawn.air * (drawn.vessels - patient.air * (1 - drawn.lost)) + drawn.solid + chest.clutter()
    )
    if random.random() < 0.25:
        signal += chest.device()
    return Film(acquire(random, signal * beam(chest), chest.scale), drawn.findings)


def _filled(piece: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(piece.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled: np.ndarray = np.zeros(piece.shape, np.uint8)
    return cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
