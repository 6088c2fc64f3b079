"""Examination of one phantom patient: both whole-body views with lesion masks and boxes."""

from dataclasses import dataclass

import numpy as np

from datamodules.phantoms.bone_counts import Visibility, acquire, boxes, gain
from datamodules.phantoms.bone_gantry import VIEWS, Gantry
from datamodules.phantoms.bone_head import draw_head
from datamodules.phantoms.bone_hot_spots import draw_hot_spots
from datamodules.phantoms.bone_lesions import Lesions, draw_lesions
from datamodules.phantoms.bone_limbs import draw_limbs
from datamodules.phantoms.bone_patient import draw_patient
from datamodules.phantoms.bone_soft_tissue import draw_soft_tissue
from datamodules.phantoms.bone_trunk import draw_trunk
from datamodules.refusal import UserError

OVERFLOW = 0.3  # share of patients whose too bright pixels start again at black
TRIES = 20
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
class Scan:
    """One view of an examination.

    Attributes:
        image: uint8 `height x width`.
        mask: Bool `height x width`, the lesions that can be seen in this view.
        abnormal: A box around each part of the mask.
        normal: Boxes around what else is hot: urine, kidneys, injection site, worn joints.
        regions: Where some parts of the body lie, by names as "kneeL"; a box each.
    """

    image: np.ndarray
    mask: np.ndarray
    abnormal: list[Box]
    normal: list[Box]
    regions: dict[str, Box]


def examine(
    random: np.random.Generator,
    height: int,
    ill: bool,
    counts: tuple[float, float],
    lesions_as: Lesions,
    urine: float,
    visibility: Visibility,
) -> dict[str, Scan]:
    """Draw a patient and its two simultaneous scans, "ANT" and "POST".

    Args:
        random: Source of everything random.
        height: Of the scans in pixels; they are a quarter as wide.
        ill: Whether there are lesions; at least one is then seen in at least one view.
        counts: See `draw_patient`.
        lesions_as: How hot and how large they are.
        urine: See `draw_hot_spots`.
        visibility: When a lesion, or anything else hot, counts as seen in a view.

    Raises:
        Refusal: Lesions of this uptake are never seen at this visibility.
    """
    of_body, of_spots, of_lesions, of_noise = random.spawn(4)
    patient = draw_patient(of_body, counts)
    gantry = Gantry(of_body, patient, height)
    for draw in (draw_soft_tissue, draw_head, draw_trunk, draw_limbs):
        draw(gantry)
    body = gantry.body()
    exposure = patient.counts / float(body[0].sum())
    spots = [exposure * spot for spot in draw_hot_spots(gantry, of_spots, urine)]
    healthy = exposure * body + np.sum(spots, 0)
    masks: list[list[np.ndarray]] = [[], []]
    expected = gantry.with_scatter(healthy)
    for _ in range(TRIES if ill else 0):
        lesions = [exposure * lesion for lesion in draw_lesions(gantry, of_lesions, lesions_as)]
        expected = gantry.with_scatter(healthy + np.sum(lesions, 0))
        masks = _seen(lesions, expected, visibility)
        if any(masks):
            break
    if ill and not any(masks):
        said = f"no lesion of uptake {lesions_as.uptake} is seen at {visibility} in {TRIES} draws"
        raise UserError(f"{said}; raise datamodule.phantom.uptake or see less strictly")
    return _scans(gantry, of_noise, expected, masks, _seen(spots, expected, visibility))


def _scans(
    gantry: Gantry,
    random: np.random.Generator,
    expected: np.ndarray,
    lesions: list[list[np.ndarray]],
    normal: list[list[np.ndarray]],
) -> dict[str, Scan]:
    """Acquire both views, with the masks and boxes of what is seen in each."""
    overflow, scans = bool(random.random() < OVERFLOW), {}
    for name, seen, lesions_seen, spots_seen in zip(VIEWS, expected, lesions, normal, strict=True):
        mask = np.any([np.zeros(gantry.shape, bool), *lesions_seen], 0)
        turn = slice(
            None, None, -1 if name == "POST" else 1
        )  # the patient's left is the posterior view's left
        around = [box for spot in spots_seen for box in boxes(spot[:, turn])]
        image = acquire(random, seen[:, turn], overflow)
        scans[name] = Scan(
            image, mask[:, turn], boxes(mask[:, turn]), around, _regions(gantry, name)
        )
    return scans


def _seen(
    spots: list[np.ndarray], expected: np.ndarray, visibility: Visibility
) -> list[list[np.ndarray]]:
    """Return, for each view, the masks of the spots that are seen in it."""
    seen = []
    for view, everything in enumerate(expected):
        masks = [visibility.mask(spot[view], everything, gain(everything)) for spot in spots]
        seen.append([mask for mask in masks if mask is not None])
    return seen


def _regions(gantry: Gantry, view: str) -> dict[str, Box]:
    """Return the boxes of REGIONS in one view, clipped to the image."""
    height, width = gantry.shape
    found = {}
    for name, (part, (x1, y1, x2, y2)) in REGIONS.items():
        corners = gantry.place(part, np.array([(x, y) for x in (x1, x2) for y in (y1, y2)]))
        columns = width - corners[:, 0] if view == "POST" else corners[:, 0]
        low, high = np.clip(
            np.rint([(columns.min(), corners[:, 1].min()), (columns.max(), corners[:, 1].max())]),
            0,
            (width, height),
        ).astype(int)
        found[name] = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    return found
