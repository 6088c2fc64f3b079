"""Bone-scan phantoms: acquisition, and the BS-80K layout on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import cv2
import numpy as np
from pydantic import Field

from datamodules.arguments import (
    AllowedValues,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    PositiveRange,
    validated,
)
from datamodules.errors import UserError
from datamodules.phantoms.bone_anatomy import (
    VIEWS,
    GammaCamera,
    LesionConfig,
    draw_head,
    draw_hot_spots,
    draw_lesions,
    draw_limbs,
    draw_soft_tissue,
    draw_trunk,
    sample_patient,
)
from datamodules.phantoms.folder import write_once, write_picture

REAL_IMAGE_ROWS = 1024  # rows of a real scan; smaller phantoms look like downsampled real scans
MAX_GRAY = 255


@dataclass(frozen=True)
class Visibility:
    """Rule for the visibility of a spot in one view, and for the pixels of its mask.

    It is evaluated on expected counts, before noise, among the pixels of the spot's mask.

    Attributes:
        min_contrast: Smallest ratio of the spot's own counts to all other counts there.
        min_snr: Smallest signal-to-noise ratio: the spot's own counts divided by the square root of
            all others. Rose (1948) found that an observer needs about 5.
        min_gray_levels: Smallest number of gray levels that the spot's peak adds; hot spots
            elsewhere reduce it.
        mask_threshold: Fraction of the spot's own peak above which a pixel belongs to its mask; 0.4
            is customary for the segmentation of tracer volumes.
    """

    min_contrast: float = 0.35
    min_snr: float = 5.0
    min_gray_levels: float = 4.0
    mask_threshold: float = 0.4

    def visible_mask(
        self, spot: np.ndarray, all_counts: np.ndarray, gain: float
    ) -> np.ndarray | None:
        """Return the spot's mask, bool `height x width`, or None if the spot is not visible.

        Args:
            spot: Expected counts of the spot per pixel, `height x width`.
            all_counts: Expected counts of the whole scan including the spot.
            gain: Gray levels per count, see `gray_levels_per_count`.
        """
        inside = spot > self.mask_threshold * spot.max()
        signal, others = float(spot[inside].sum()), float((all_counts - spot)[inside].sum())
        seen = (
            signal > self.min_contrast * others
            and signal > self.min_snr * np.sqrt(max(others, 1.0))
            and spot.max() * gain >= self.min_gray_levels
        )
        return inside if seen and inside.any() else None


def gray_levels_per_count(expected: np.ndarray) -> float:
    """Return the gray levels per count.

    The hottest pixel is white, but a count in a scan of 1024 rows is at least one level. Real files
    behave the same way: without hot urine they use all 255 levels; with hot urine the body is dark
    and the urine overflows.

    Args:
        expected: Counts per pixel, `height x width`.
    """
    smaller = (len(expected) / REAL_IMAGE_ROWS) ** 2  # a pixel of a smaller scan holds more counts
    peak = float(expected.max()) * smaller
    return smaller * max(1.0, MAX_GRAY / (peak + 3.5 * np.sqrt(peak) + 1))


def acquire_scan(random: np.random.Generator, expected: np.ndarray, overflow: bool) -> np.ndarray:
    """Acquire one scan: Poisson counts as gray levels, uint8 `height x width`.

    Args:
        random: Source of the noise.
        expected: Expected counts per pixel, `height x width`.
        overflow: True if values that are too bright start again at black, as in some real files,
            instead of staying white.
    """
    levels = np.rint(random.poisson(expected) * gray_levels_per_count(expected)).astype(np.int64)
    return (levels % (MAX_GRAY + 1) if overflow else np.clip(levels, 0, MAX_GRAY)).astype(np.uint8)


def boxes_of_parts(mask: np.ndarray, margin: int = 1) -> list[tuple[int, int, int, int]]:
    """Return a box (x1, y1, x2, y2) around each connected part of a mask, from top to bottom.

    Corners are pixel edges.

    Args:
        mask: Bool `height x width`.
        margin: Pixels left free around the part, where the image has them.
    """
    height, width = mask.shape
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return sorted(
        (
            (
                max(x - margin, 0),
                max(y - margin, 0),
                min(x + w + margin, width),
                min(y + h + margin, height),
            )
            for x, y, w, h, _ in stats[1:].tolist()
        ),
        key=lambda box: (box[1], box[0]),
    )


P_OVERFLOW = 0.3  # fraction of patients whose pixels overflow: too bright ones start again at black
MAX_TRIES = 20
REGIONS = {
    "kneeL": ("thigh_left", (2.5, 120, 16.5, 138)),
    "kneeR": ("thigh_right", (-16.5, 120, -2.5, 138)),
}  # part, x1, y1, x2, y2 in its cm
REGIONS |= {
    "vertbra": ("trunk", (-6, 17, 6, 77)),
    "pelvis": ("trunk", (-16, 70, 16, 99)),
}  # "vertbra" is the real set's spelling
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class BoneScanView:
    """One view of an examination.

    Attributes:
        image: uint8 `height x width`.
        mask: Bool `height x width`, the lesions that are visible in this view.
        abnormal: One box around each part of the mask.
        normal: Boxes around other hot spots: urine, kidneys, injection site, worn joints.
        regions: Box of some parts of the body, by names such as "kneeL".
    """

    image: np.ndarray
    mask: np.ndarray
    abnormal: list[Box]
    normal: list[Box]
    regions: dict[str, Box]


def simulate_examination(
    random: np.random.Generator,
    height: int,
    has_lesions: bool,
    counts: tuple[float, float],
    lesion_config: LesionConfig,
    urine: float,
    visibility: Visibility,
) -> dict[str, BoneScanView]:
    """Simulate a patient and the two simultaneous scans "ANT" and "POST".

    Args:
        random: Source of everything random.
        height: Height of the scans in pixels; they are a quarter as wide.
        has_lesions: True for a patient with lesions; at least one is then visible in at least one
            view.
        counts: See `sample_patient`.
        lesion_config: Uptake and size of the lesions.
        urine: See `draw_hot_spots`.
        visibility: Rule for the visibility of lesions and other hot spots.

    Raises:
        UserError: Lesions of this uptake are never visible by this rule.
    """
    of_body, of_spots, of_lesions, of_noise = random.spawn(4)
    patient = sample_patient(of_body, counts)
    gantry = GammaCamera(of_body, patient, height)
    for draw in (draw_soft_tissue, draw_head, draw_trunk, draw_limbs):
        draw(gantry)
    body = gantry.project_body()
    exposure = patient.counts / float(body[0].sum())
    spots = [exposure * spot for spot in draw_hot_spots(gantry, of_spots, urine)]
    healthy = exposure * body + np.sum(spots, 0)
    masks: list[list[np.ndarray]] = [[], []]
    expected = gantry.with_scatter(healthy)
    for _ in range(MAX_TRIES if has_lesions else 0):
        lesions = [exposure * lesion for lesion in draw_lesions(gantry, of_lesions, lesion_config)]
        expected = gantry.with_scatter(healthy + np.sum(lesions, 0))
        masks = _visible_masks(lesions, expected, visibility)
        if any(masks):
            break
    if has_lesions and not any(masks):
        problem = (
            f"no lesion of uptake {lesion_config.uptake} is visible by {visibility} in {MAX_TRIES}"
            " tries"
        )
        raise UserError(
            f"{problem}; raise datamodule.phantom.uptake, or lower min_contrast, min_snr or"
            " min_gray_levels"
        )
    return _acquire_views(
        gantry, of_noise, expected, masks, _visible_masks(spots, expected, visibility)
    )


def _acquire_views(
    gantry: GammaCamera,
    random: np.random.Generator,
    expected: np.ndarray,
    lesions: list[list[np.ndarray]],
    normal: list[list[np.ndarray]],
) -> dict[str, BoneScanView]:
    """Acquire both views, with the masks and boxes of everything visible in each."""
    overflow, scans = bool(random.random() < P_OVERFLOW), {}
    for name, seen, lesions_seen, spots_seen in zip(VIEWS, expected, lesions, normal, strict=True):
        mask = np.any([np.zeros(gantry.shape, bool), *lesions_seen], 0)
        turn = slice(
            None, None, -1 if name == "POST" else 1
        )  # the patient's left is the posterior view's left
        around = [box for spot in spots_seen for box in boxes_of_parts(spot[:, turn])]
        image = acquire_scan(random, seen[:, turn], overflow)
        scans[name] = BoneScanView(
            image, mask[:, turn], boxes_of_parts(mask[:, turn]), around, _region_boxes(gantry, name)
        )
    return scans


def _visible_masks(
    spots: list[np.ndarray], expected: np.ndarray, visibility: Visibility
) -> list[list[np.ndarray]]:
    """Return, for each view, the masks of the spots that are seen in it."""
    seen = []
    for view, everything in enumerate(expected):
        masks = [
            visibility.visible_mask(spot[view], everything, gray_levels_per_count(everything))
            for spot in spots
        ]
        seen.append([mask for mask in masks if mask is not None])
    return seen


def _region_boxes(gantry: GammaCamera, view: str) -> dict[str, Box]:
    """Return the boxes of REGIONS in one view, clipped to the image."""
    height, width = gantry.shape
    found = {}
    for name, (part, (x1, y1, x2, y2)) in REGIONS.items():
        corners = gantry.to_pixels(part, np.array([(x, y) for x in (x1, x2) for y in (y1, y2)]))
        columns = width - corners[:, 0] if view == "POST" else corners[:, 0]
        low, high = np.clip(
            np.rint([(columns.min(), corners[:, 1].min()), (columns.max(), corners[:, 1].max())]),
            0,
            (width, height),
        ).astype(int)
        found[name] = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    return found


WHOLE_BODY = "wholeBody"
REGION_FOLDERS = ("kneeLANT", "kneeRPOST", "vertbraPOST", "pelvisANT")  # of the real set's 26
P_NO_XML = 0.03  # fraction of scans without annotated boxes
P_NO_REGIONS = 0.1  # share of patients whose regions were not cut out; 322 of 3,247 in the real set


class BoneScanWriter:
    """Writer of patients that collects their labels; `close` writes the labels.

    Args:
        root: Empty folder to write to.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._lines = root, dict[str, list[str]]()
        for view in ("ANT", "POST"):
            (root / (WHOLE_BODY + view) / view.lower()).mkdir(parents=True)
            (root / "masks" / (WHOLE_BODY + view)).mkdir(parents=True)
        for name in REGION_FOLDERS:
            (root / name).mkdir()

    def write(
        self, number: int, scans: dict[str, BoneScanView], random: np.random.Generator
    ) -> None:
        """Write one patient.

        Args:
            number: Number of the patient, from 1; it names the files in all folders.
            scans: Scans by view.
            random: Source of the JPEGs' quality and of missing XMLs and regions.
        """
        quality, regions = int(random.integers(88, 97)), random.random() >= P_NO_REGIONS
        for view, scan in scans.items():
            folder = WHOLE_BODY + view
            self._write_image(folder, number, scan.image, bool(scan.mask.any()), quality)
            write_picture(
                str(self._root / "masks" / folder / f"{number}.png"),
                scan.mask.astype(np.uint8) * 255,
            )
            if random.random() >= P_NO_XML:
                (self._root / folder / view.lower() / f"{number}.xml").write_bytes(
                    build_voc_xml(folder, f"{number}.jpg", scan)
                )
            for region, (x1, y1, x2, y2) in scan.regions.items() if regions else ():
                if region + view in REGION_FOLDERS:
                    abnormal = bool(scan.mask[y1:y2, x1:x2].any())
                    self._write_image(
                        region + view, number, scan.image[y1:y2, x1:x2], abnormal, quality
                    )

    def close(self) -> None:
        """Write the labels of each folder: per image its name, a tab, and 1 (abnormal) or 0."""
        for folder, lines in self._lines.items():
            (self._root / folder / f"{folder}.txt").write_text("".join(lines))

    def _write_image(
        self, folder: str, number: int, image: np.ndarray, abnormal: bool, quality: int
    ) -> None:
        write_picture(
            str(self._root / folder / f"{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        self._lines.setdefault(folder, []).append(f"{number}.jpg\t{int(abnormal)}\n")


def build_voc_xml(folder: str, name: str, view: BoneScanView) -> bytes:
    """Return a scan's boxes as Pascal VOC XML, as LabelImg writes it.

    Boxes around lesions are "Abnormal", those around other hot spots "Normal".
    """
    root = ElementTree.Element("annotation")
    for tag, text in (("folder", folder), ("filename", name), ("path", f"{folder}/{name}")):
        ElementTree.SubElement(root, tag).text = text
    ElementTree.SubElement(ElementTree.SubElement(root, "source"), "database").text = "Unknown"
    size = ElementTree.SubElement(root, "size")
    for tag, number in zip(("width", "height", "depth"), (*view.image.shape[::-1], 1), strict=True):
        ElementTree.SubElement(size, tag).text = str(number)
    ElementTree.SubElement(root, "segmented").text = "0"
    for kind, boxes in (("Normal", view.normal), ("Abnormal", view.abnormal)):
        for box in boxes:
            _add_object(root, kind, box)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root)


def _add_object(root: ElementTree.Element, kind: str, box: Box) -> None:
    found = ElementTree.SubElement(root, "object")
    for tag, text in (
        ("name", kind),
        ("pose", "Unspecified"),
        ("truncated", "0"),
        ("difficult", "0"),
    ):
        ElementTree.SubElement(found, tag).text = text
    corners = ElementTree.SubElement(found, "bndbox")
    for tag, number in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
        ElementTree.SubElement(corners, tag).text = str(number)


MIN_HEIGHT = 128  # rows below which ribs can no longer be distinguished
ScanHeight = Annotated[
    int, Field(ge=MIN_HEIGHT, multiple_of=4), AllowedValues("a multiple of 4 from 128 on, as 384")
]


@validated
def write(
    root: Path,
    patients: PositiveInt = 300,
    height: ScanHeight = 384,
    abnormal: Fraction = 0.5,
    counts: PositiveRange = (4e5, 1.8e6),
    uptake: NonNegativeFloat = 1.0,
    extent: NonNegativeFloat = 1.0,
    urine: NonNegativeFloat = 1.0,
    min_contrast: NonNegativeFloat = 0.35,
    min_snr: NonNegativeFloat = 5.0,
    min_gray_levels: NonNegativeFloat = 4.0,
    mask_threshold: Fraction = 0.4,
    seed: NonNegativeInt = 0,
) -> None:
    """Write whole-body scans below `root`, once, with their labels, boxes and some regions.

    `masks/` is written too, which the real set lacks. As in the real set, a file's number is that
    of its patient in all folders, healthy scans have an XML too and a few XMLs are missing, healthy
    hot spots have boxes named Normal, some bright spots overflow, and one patient is there twice,
    see `duplicate_patients`.

    Args:
        root: Folder to write; it is not changed if it already holds the same phantoms.
        patients: Number of patients; each has two scans.
        height: Height of the scans in pixels, 1024 in the real set; they are a quarter as wide.
        abnormal: Fraction of patients with 1 to 8 lesions, at least one of which is visible in at
            least one view; the fraction of abnormal images is therefore smaller. In the real set 36
            % of the anterior and 32 % of the posterior images are abnormal.
        counts: Range of the counts of skeleton and soft tissue in the anterior view.
        uptake: Factor of all lesions' uptake; 1 ranges from subtle to hot, a larger one compensates
            for few images or few pixels.
        extent: Factor of all lesions' diameters, 1 for about 1.5 to 6.5 cm; a larger one
            compensates too.
        urine: Factor of the tracer in bladder, kidneys and spilt urine, and at the injection site;
            more of it outshines the lesions.
        min_contrast: Smallest ratio of a visible lesion's counts to all other counts in its mask.
        min_snr: Smallest signal-to-noise ratio of a visible lesion.
        min_gray_levels: Smallest number of gray levels of a visible lesion's peak.
        mask_threshold: Fraction of a lesion's peak above which a pixel belongs to its mask.
        seed: Source of everything random.

    Raises:
        UserError: An argument is invalid, lesions of this uptake are never visible, or `root`
            exists and holds no phantoms.
    """
    numbers = {
        "patients": patients,
        "height": height,
        "abnormal": abnormal,
        "counts": [float(count) for count in counts],
    }
    numbers |= {"uptake": uptake, "extent": extent, "urine": urine}
    numbers |= {
        "visible": [min_contrast, min_snr, min_gray_levels, mask_threshold],
        "seed": seed,
        "version": 1,
        "set": "bone_scan",
    }
    visibility = Visibility(min_contrast, min_snr, min_gray_levels, mask_threshold)
    with write_once(root, numbers) as folder:
        if folder is None:
            return
        ill = np.random.default_rng([seed, 0]).permutation(patients) < round(abnormal * patients)
        originals = {last: first for first, last in duplicate_patients(patients)}
        layout = BoneScanWriter(folder)
        for number in range(1, patients + 1):
            original = originals.get(number, number)
            random = np.random.default_rng([seed, original])
            scans = simulate_examination(
                random,
                height,
                bool(ill[original - 1]),
                (counts[0], counts[1]),
                LesionConfig(uptake, extent),
                urine,
                visibility,
            )
            layout.write(number, scans, random)
        layout.close()


def duplicate_patients(patients: int) -> list[tuple[int, int]]:
    """Return the pairs of numbers that are one patient with identical images.

    There is one pair (the real set has four), and none among fewer than four patients.
    """
    return [(2, patients)] if patients >= 4 else []
