"""Findings on chest phantoms, and a data set of them with multi-hot labels."""

from collections.abc import Collection, Iterator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from datamodules.arguments import NonNegativeInt, PositiveInt, validated
from datamodules.manifest.manifest import Manifest
from datamodules.phantoms.chest_anatomy import (
    SIDES,
    ChestPatient,
    ChestRenderer,
    beam_profile,
    blur_layer,
    collapse_lung,
    draw_confounders,
    draw_marker,
    expose_film,
    sphere_thickness,
)
from datamodules.phantoms.folder import write_once, write_picture


def sample_area(random: np.random.Generator) -> float:
    """Sample a lesion's area as a fraction of the image, distributed as in SIIM-ACR.

    There it is 55 to 161,421 of 1024^2 pixels with median 8,630 and mean 14,331.
    """
    return float(np.clip(8630 * random.lognormal(0, 1.0), 55, 161421) / 1024**2)


def draw_pneumothorax(
    random: np.random.Generator,
    height: int,
    width: int,
    patient: ChestPatient,
    area: float | None,
    confounders: bool = True,
    contrast: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image of a patient, with or without pneumothorax.

    Each image has its own pose, breath and exposure.

    Args:
        random: Source of everything that varies between images of one patient. Pneumothorax and
            confounders use child generators, so that everything else is the same with and without
            them.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        patient: The patient of the image.
        area: Area of the pneumothorax as a share of the image, see `collapse_lung`; None for none.
        confounders: True if tubes, skin folds, clothes, hair and scapulae may lie over the lungs.
        contrast: Contrast of the pneumothorax and of the confounders that resemble it; 1 is about
            that of real ones, a larger one compensates for few images or few pixels.

    Returns:
        The image, uint8 `height x width`, and the pleural air, uint8 0/1 `height x width`.
    """
    of_lesion, of_confounders = random.spawn(2)
    chest = ChestRenderer(random, height, width, patient)
    body, heart, lungs = chest.body(), chest.heart(enlarged=False), chest.lungs()
    air = lungs * (1 - 0.9 * heart)
    lost = chest.haze()
    signal, vessels = (
        body + 0.12 * heart + chest.skeleton() + chest.soft_tissue() - chest.airway(),
        chest.vessels(),
    )
    mask, side = np.zeros((height, width), np.uint8), 0
    if area is not None:
        side = int(of_lesion.choice(SIDES, p=[0.55, 0.45]))
        collapse = collapse_lung(
            chest, of_lesion, (lungs > 0.25) & (heart < 0.5) & (side * chest.x > 0), side, area
        )
        mask = (collapse.air > 0.5).astype(np.uint8)
        denser = (
            collapse.lung * (0.02 + 0.4 * collapse.share) * of_lesion.uniform(0.5, 1.2) * contrast
        )
        lost = (
            lost * (1 - collapse.air)
            + denser
            - contrast * of_lesion.uniform(0.02, 0.09) * collapse.air
        )
        vessels = (
            vessels * (1 - collapse.air) + contrast * of_lesion.uniform(0.05, 0.11) * collapse.line
        )
    signal += air * (vessels - patient.air * (1 - lost)) + chest.clutter()
    if confounders:
        overlaid = copy(chest)
        overlaid.random = of_confounders
        signal += draw_confounders(overlaid, side, contrast)
    return expose_film(random, signal * beam_profile(chest), chest.scale), mask


FINDING_KINDS = (
    "Cardiomegaly",
    "Consolidation",
    "Effusion",
    "Mass",
    "Nodule",
    "Pneumothorax",
)  # as ChestX-Det spells them
MIN_FINDING_PIXELS = 6  # smallest finding in pixels


@dataclass(frozen=True)
class AnnotatedRadiograph:
    """Synthetic radiograph with its findings.

    Attributes:
        image: uint8 `height x width`.
        findings: Kind and mask (uint8 0/1 `height x width`) of each finding; masks are connected
            and have no holes.
    """

    image: np.ndarray
    findings: list[tuple[str, np.ndarray]]


class _FindingOverlay:
    """Builder of a chest to which findings are added one by one."""

    def __init__(
        self,
        chest: ChestRenderer,
        random: np.random.Generator,
        lungs: np.ndarray,
        heart: np.ndarray,
        contrast: float,
    ) -> None:
        self.lost, self.vessels = chest.haze(), chest.vessels()
        self.chest, self.random, self.contrast = copy(chest), random, contrast
        self.chest.random = random
        self.lungs, self.heart = lungs, heart
        self.air = lungs * (1 - 0.9 * heart)
        self.solid: np.ndarray = np.zeros(chest.shape, np.float32)
        self.findings: list[tuple[str, np.ndarray]] = []

    def cardiomegaly(self) -> None:
        """Outline the enlarged heart, without the great vessels above it."""
        kernel = cv2.getStructuringElement(
            cv2.MORPH_ELLIPSE, (2 * round(2.3 * self.chest.scale) + 1,) * 2
        )  # wider than they are
        opened = cv2.morphologyEx((self.heart > 0.3).astype(np.uint8), cv2.MORPH_OPEN, kernel)
        self._add_findings("Cardiomegaly", opened > 0, parts=1)

    def pneumothorax(self) -> None:
        """Add air beside a collapsed lung; added first, it displaces only vessels and haze."""
        side = int(self.random.choice(SIDES))
        field = (self.lungs > 0.25) & (self.heart < 0.5) & (side * self.chest.x > 0)
        collapse = collapse_lung(
            self.chest, self.random, field, side, max(sample_area(self.random), 0.01)
        )
        self.lost = self.lost * (1 - collapse.air) + self.contrast * (
            0.1 * collapse.lung - 0.05 * collapse.air
        )
        self.vessels = (
            self.vessels * (1 - collapse.air)
            + self.contrast * self.random.uniform(0.05, 0.11) * collapse.line
        )
        self._add_findings("Pneumothorax", collapse.air > 0.5)

    def consolidation(self) -> None:
        """Add patches in the lungs and behind the heart."""
        lost = self.chest.opacity(self.air)
        self.lost = np.maximum(self.lost, lost)
        self._add_findings(
            "Consolidation", (blur_layer(lost, 0.3 * self.chest.scale) > 0.22) & (self.lungs > 0.3)
        )

    def effusion(self) -> None:
        """Add fluid in the costophrenic angles."""
        lost = self.chest.effusion()
        self.lost = np.maximum(self.lost, lost)
        self._add_findings("Effusion", (lost > 0.3) & (self.lungs > 0.3))

    def mass(self) -> None:
        """Add one round shadow of 3.2 to 7 cm."""
        self._add_sphere("Mass", self.random.uniform(1.6, 3.5), self.random.uniform(0.12, 0.22))

    def nodule(self) -> None:
        """Add 1 to 3 round shadows below 3 cm."""
        for _ in range(self.random.integers(1, 4)):
            self._add_sphere(
                "Nodule", self.random.uniform(0.5, 1.4), self.random.uniform(0.06, 0.13)
            )

    def _add_sphere(self, kind: str, radius: float, strength: float) -> None:
        x, y = self.chest.sample_point(self.air > 0.6)
        wobble = 1 + 0.06 * self.chest.noise(radius)
        distance = (
            self.chest.distance(
                x, y, radius, radius * self.random.uniform(0.8, 1), self.random.uniform(0, np.pi)
            )
            * wobble
        )
        self.solid += self.contrast * strength * sphere_thickness(distance)
        self._add_findings(kind, distance < 0.95, parts=1)

    def _add_findings(self, kind: str, where: np.ndarray, parts: int = 9) -> None:
        """Add the largest `parts` pieces as findings, largest first; tiny pieces are left out."""
        _, labels, about, _ = cv2.connectedComponentsWithStats(
            where.astype(np.uint8), connectivity=4
        )
        sizes = about[1:, cv2.CC_STAT_AREA]
        for part in np.argsort(-sizes)[:parts]:
            if sizes[part] >= max(MIN_FINDING_PIXELS, 0.05 * sizes.max()):
                self.findings.append((kind, _fill_holes(labels == part + 1)))


def draw_annotated_radiograph(
    random: np.random.Generator,
    height: int,
    width: int,
    patient: ChestPatient,
    kinds: Collection[str] = (),
    contrast: float = 1.0,
) -> AnnotatedRadiograph:
    """Draw one image of a patient in its own pose, breath and exposure.

    Args:
        random: Source of everything that varies between images of one patient. The findings use a
            child generator, so that everything else is the same with and without them.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        patient: The patient of the image.
        kinds: Kinds of findings, from FINDING_KINDS.
        contrast: Contrast of the faint kinds: masses, nodules and pneumothoraces; a larger one
            compensates for few pixels.

    Raises:
        ValueError: A kind is not one of FINDING_KINDS.
    """
    unknown = set(kinds) - set(FINDING_KINDS)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are none of {FINDING_KINDS}")
    (of_findings,) = random.spawn(1)
    chest = ChestRenderer(random, height, width, patient)
    body, heart, lungs = chest.body(), chest.heart("Cardiomegaly" in kinds), chest.lungs()
    overlay = _FindingOverlay(chest, of_findings, lungs, heart, contrast)
    for kind in ("Pneumothorax", *(kind for kind in FINDING_KINDS if kind != "Pneumothorax")):
        if kind in kinds:
            getattr(overlay, kind.lower())()
    signal = body + 0.12 * heart + chest.skeleton() + chest.soft_tissue() - chest.airway()
    signal += (
        overlay.air * (overlay.vessels - patient.air * (1 - overlay.lost))
        + overlay.solid
        + chest.clutter()
    )
    if random.random() < 0.25:
        signal += chest.device()
    return AnnotatedRadiograph(
        expose_film(random, signal * beam_profile(chest), chest.scale), overlay.findings
    )


def _fill_holes(piece: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(piece.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled: np.ndarray = np.zeros(piece.shape, np.uint8)
    return cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)


FINDINGS = ("opacity", "effusion", "enlarged_heart", "nodule", "device")


def sample_patient(random: np.random.Generator) -> ChestPatient:
    """Sample a patient's anatomy."""
    between = random.uniform
    return ChestPatient(
        half_width=between(11, 16),
        height=between(19, 27),
        wall=between(1.8, 3.2),
        mediastinum=between(1.9, 3.0),
        heart=between(0.39, 0.50),
        heart_shift=between(0.8, 2.0),
        dome=between(2.0, 5.5),
        rib_spacing=between(2.1, 2.8),
        rib_slope=between(2.5, 6.0),
        rib_strength=between(0.06, 0.14),
        clavicle=between(-0.5, 3.5),
        bend=2.5 * between(-1, 1) ** 3,  # few spines bend much
        tissue=between(1.5, 5.0),
        breast=between(0.04, 0.16) if random.random() < 0.45 else 0.0,
        air=between(0.5, 0.62),
        vessels=int(random.integers(2**31)),
    )


def draw_radiograph(
    random: np.random.Generator,
    height: int,
    width: int,
    patient: ChestPatient,
    findings: Collection[str] = (),
    marker: str | None = None,
) -> np.ndarray:
    """Draw one image of a patient in its own pose, breath and exposure.

    Args:
        random: Source of everything that varies between images of one patient.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        patient: The patient of the image.
        findings: Findings, from FINDINGS.
        marker: Bright letters in a corner, such as "R" or "AP PORTABLE".

    Returns:
        uint8 `height x width`; bone and fluid bright, air dark.
    """
    unknown = set(findings) - set(FINDINGS)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are none of {FINDINGS}")
    chest = ChestRenderer(random, height, width, patient)
    body, heart, lungs = chest.body(), chest.heart("enlarged_heart" in findings), chest.lungs()
    air = lungs * (1 - 0.9 * heart)
    lost = chest.haze() * air
    if "opacity" in findings:
        lost = np.maximum(lost, air * chest.opacity(air))
    if "effusion" in findings:
        lost = np.maximum(lost, air * chest.effusion())
    signal = (
        body + 0.12 * heart + chest.skeleton() + chest.soft_tissue() - patient.air * (air - lost)
    )
    signal += air * chest.vessels() - chest.airway()
    if "nodule" in findings:
        signal += chest.nodules(air)
    signal += chest.clutter() + (chest.device() if "device" in findings else 0)
    return draw_marker(
        random, expose_film(random, signal * beam_profile(chest), chest.scale), marker
    )


CLASSES = ("effusion", "enlarged_heart", "nodule", "device")
PREVALENCE = 0.35


@validated
def write(
    root: Path,
    train: PositiveInt = 600,
    val: PositiveInt = 100,
    test: PositiveInt = 150,
    size: PositiveInt = 160,
    seed: NonNegativeInt = 0,
) -> None:
    """Write `images/*.jpg` and `manifest.csv` below `root`, once.

    Findings are sampled independently of each other; a patient has 1 or 2 images, all in one split.

    Args:
        root: Folder to write; it is not changed if it already holds the same phantoms.
        train: Images in train.
        val: Images in val.
        test: Images in test.
        size: Approximate side of the images in pixels.
        seed: Source of everything random.
    """
    counts = {"train": train, "val": val, "test": test}
    with write_once(root, {**counts, "size": size, "seed": seed, "version": 1}) as folder:
        if folder is not None:
            (folder / "images").mkdir()
            rows = [
                row
                for number, split in enumerate(counts)
                for row in _write_split(folder, [seed, number], split, counts[split], size)
            ]
            Manifest(pd.DataFrame(rows), CLASSES, "patient").write(folder / "manifest.csv")


def _write_split(
    root: Path, seed: list[int], split: str, images: int, size: int
) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(seed)
    patient, group, own = sample_patient(random), 0, 0
    for index in range(images):
        if own == 2 or (own == 1 and random.random() < 0.5):
            patient, group, own = sample_patient(random), group + 1, 0
        own += 1
        label = [int(random.random() < PREVALENCE) for _ in CLASSES]
        height, width = (round(side) for side in size * random.uniform(0.85, 1.1, 2))
        pixels = draw_radiograph(
            random,
            height,
            width,
            patient,
            [name for name, there in zip(CLASSES, label, strict=True) if there],
        )
        name = f"{split}{index:05d}"
        write_picture(
            str(root / "images" / f"{name}.jpg"),
            pixels,
            [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(85, 96))],
        )
        yield {
            "id": name,
            "image": f"images/{name}.jpg",
            "group": f"{split}{group:05d}",
            "label": label,
            "split": split,
        }
