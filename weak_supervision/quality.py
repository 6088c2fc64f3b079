"""Quality filter of pseudo masks by their features and their stability."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from datamodules.arguments import (
    ArgumentError,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    config_dataclass,
)
from weak_supervision.segmenters.base import Masks, Segmenter, box_to_slices

EIGHT_CONNECTED = np.ones((3, 3), bool)  # pixels that touch by a corner are one piece


def mask_features(
    mask: np.ndarray, box: np.ndarray, point: np.ndarray, heat: np.ndarray
) -> dict[str, float]:
    """Compute the features of one mask.

    An empty mask has 0 for `area` and `components`, and NaN for the rest.

    - `area`: share of the image.
    - `components`: number of pieces; corners touch.
    - `largest`: share of the mask that its largest piece has.
    - `distance`: from the peak to the nearest edge of a pixel, relative to the longer side of the
    box; 0 if the peak is inside.
    - `heat`: mean heat inside the mask.
    - `agreement`: `heat` minus the mean heat of the rest of the box, which counts as 0 if the mask
      fills the box.

    Args:
        mask: Bool `H x W`.
        box: Float `4`.
        point: Float `2`, the peak.
        heat: Float `H x W`.
    """
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return {"area": 0.0, "components": 0.0} | dict.fromkeys(
            ("largest", "distance", "heat", "agreement"), np.nan
        )
    pieces, number = ndimage.label(
        mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], EIGHT_CONNECTED
    )
    aside = [
        np.maximum(np.abs(place + 0.5 - center) - 0.5, 0)
        for place, center in ((columns, point[0]), (rows, point[1]))
    ]
    part = box_to_slices(box, mask.shape)
    rest = heat[part][~mask[part]]
    inside = float(heat[rows, columns].mean())
    return {
        "area": len(rows) / mask.size,
        "components": float(number),
        "largest": np.bincount(pieces.ravel())[1:].max() / len(rows),
        "distance": float(np.hypot(*aside).min() / max(box[2:] - box[:2])),
        "heat": inside,
        "agreement": inside - (float(rest.mean()) if len(rest) else 0.0),
    }


def jitter_boxes(
    boxes: np.ndarray, shape: tuple[int, ...], id: str, count: int, max_shift: float, seed: int = 0
) -> np.ndarray:
    """Move the four edges of each box by independent random shifts; float `N x count x 4`.

    Shifts are uniform over `-max_shift` to `max_shift` of the box's width or height. They depend
    only on the seed, the image and the box, not on other boxes, images or ranks.

    Args:
        boxes: Float `N x 4`, x1, y1, x2, y2.
        shape: H, W; boxes are cut off at the image's edges.
        id: Id of the image.
        count: Number of moved boxes per box.
        max_shift: Largest relative shift; below 0.5, so that edges cannot pass each other.
        seed: Seed of the shifts.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    drawn = np.empty((len(boxes), count, 4))
    for i, box in enumerate(boxes):
        random = np.random.default_rng(
            [seed, *(box + 0.0).view(np.uint32), *id.encode()]
        )  # + 0.0 makes -0 a 0
        drawn[i] = box + random.uniform(-max_shift, max_shift, (count, 4)) * np.tile(
            box[2:] - box[:2], 2
        )
    return np.clip(drawn, 0, np.tile(shape[1::-1], 2))


def segment_with_jitter(
    segmenter: Segmenter,
    image: np.ndarray,
    boxes: np.ndarray,
    points: np.ndarray,
    jittered_boxes: np.ndarray,
) -> tuple[Masks, np.ndarray]:
    """Segment boxes and measure the stability of each mask, in one call of the segmenter.

    Args:
        segmenter: Segmenter of boxes.
        image: Uint8 `H x W`.
        boxes: Float `N x 4`.
        points: Float `N x 2`; a moved box keeps its peak.
        jittered_boxes: Float `N x k x 4`, moved boxes as by `jitter_boxes`.

    Returns:
        `N` masks, and float64 `N`: the mean IoU of a mask with those of its moved boxes; NaN if k
            is 0.
    """
    number, each = jittered_boxes.shape[:2]
    if number == 0:
        return segmenter(image, boxes, points), np.zeros(0)
    found = segmenter(
        image,
        np.concatenate([boxes, jittered_boxes.reshape(-1, 4)]),
        np.concatenate([points, np.repeat(points, each, axis=0)]),
    )
    stable = np.full(number, np.nan)
    for i in range(number if each else 0):
        start = number + i * each
        stable[i] = np.mean(
            [mask_iou(found.masks[i], other) for other in found.masks[start : start + each]]
        )
    return (
        Masks(found.masks[:number].copy(), found.scores[:number].copy()),
        stable,
    )  # copied, so that the masks of moved boxes can be freed


def mask_iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Compute the IoU of two bool masks; 0 if both are empty."""
    return int((mask & other).sum()) / max(1, int((mask | other).sum()))


REJECTION_STEPS = {  # reason of rejection -> property of masks that pass; checked in this order
    "no heat": "heat",
    "empty mask": "a mask",
    "too small": "large enough",
    "too large": "small enough",
    "in pieces": "in one piece",
    "far from the peak": "near the peak",
    "image not suspicious": "image suspicious",
    "heat elsewhere": "heat agrees",
    "segmenter unsure": "segmenter sure",
    "unstable": "stable",
}


@dataclass(frozen=True)
class MaskCheck:
    """Quality check of one mask.

    Attributes:
        features: Name -> value: those of `mask_features`, and `probability` (of the image), `score`
            (the segmenter's own), `stability` (mean IoU with the masks of moved boxes; NaN if none
            was moved).
        reason: First reason of rejection, one of `REJECTION_STEPS`; None if the mask is accepted.
    """

    features: dict[str, float]
    reason: str | None


@config_dataclass
class QualityFilter:
    """Quality filter with bounds that a mask has to satisfy; a value on a bound passes.

    Args:
        min_area: Smallest area, as a fraction of the image.
        max_area: Largest area, as a fraction of the image.
        max_components: Largest number of pieces of a mask (8-connected).
        min_largest: Smallest fraction of the mask in its largest piece.
        max_distance: Largest distance from the peak to the mask, relative to the longer side of the
            box.
        min_probability: Smallest probability of the image by the classifier.
        min_agreement: Smallest difference of mean heat inside the mask and in the rest of the box,
            -1
            to 1; -1 accepts all.
        min_score: Smallest score of the segmenter. For segmenters without weights it is the
            contrast; pure noise has up to about 0.1, a lesion more.
        min_stability: Smallest mean IoU with the masks of moved boxes.
        jitters: Number of moved boxes per box; 0 turns the stability check off.
        jitter: Largest shift of each edge, as a fraction of the box's width or height.
        seed: Seed of the shifts.

    Raises:
        UserError: A bound is impossible.
    """

    min_area: Fraction = 1e-4
    max_area: Fraction = 3e-2
    max_components: PositiveInt = 2
    min_largest: Fraction = 0.8
    max_distance: NonNegativeFloat = 0.25
    min_probability: Fraction = 0.0
    min_agreement: Annotated[float, Field(ge=-1, le=1)] = 0.0
    min_score: NonNegativeFloat = 0.1
    min_stability: Fraction = 0.8
    jitters: Annotated[int, Field(ge=0, le=1000)] = 4
    jitter: Annotated[float, Field(ge=0, le=0.49)] = 0.1
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.min_area > self.max_area:
            raise ArgumentError(
                "",
                ("min_area",),
                f"={self.min_area} is above max_area={self.max_area}, so no mask could pass;"
                " correct one of them",
            )

    def segment(
        self,
        segmenter: Segmenter,
        image: np.ndarray,
        id: str,
        boxes: np.ndarray,
        points: np.ndarray,
    ) -> tuple[Masks, np.ndarray]:
        """Segment an image's boxes and measure the stability of each mask (`N`).

        It calls the segmenter once, see `segment_with_jitter`.
        """
        moved = jitter_boxes(boxes, image.shape, id, self.jitters, self.jitter, self.seed)
        return segment_with_jitter(segmenter, image, boxes, points, moved)

    def check(
        self,
        masks: Masks,
        stability: np.ndarray,
        boxes: np.ndarray,
        points: np.ndarray,
        heat: np.ndarray,
        probability: float,
    ) -> list[MaskCheck]:
        """Check each mask of one image.

        Args:
            masks: `N` masks, `H x W`.
            stability: `N`.
            boxes: Float `N x 4`, boxes of the masks.
            points: Float `N x 2`, the peaks.
            heat: Float `H x W`, at the image's own size, 0 to 1.
            probability: Probability of the image.
        """
        verdicts = []
        for i, (box, point) in enumerate(zip(boxes, points, strict=True)):
            measures = mask_features(masks.masks[i], box, point, heat)
            measures |= {
                "probability": float(probability),
                "score": float(masks.scores[i]),
                "stability": float(stability[i]),
            }
            verdicts.append(
                MaskCheck(measures, self._rejection_reason(measures, bool(heat.max() > 0)))
            )
        return verdicts

    def _rejection_reason(self, features: dict[str, float], has_heat: bool) -> str | None:
        fails = {
            "no heat": not has_heat,
            "empty mask": features["area"] == 0,
            "too small": features["area"] < self.min_area,
            "too large": features["area"] > self.max_area,
            "in pieces": features["components"] > self.max_components
            or features["largest"] < self.min_largest,
            "far from the peak": features["distance"] > self.max_distance,
            "image not suspicious": features["probability"] < self.min_probability,
            "heat elsewhere": features["agreement"] < self.min_agreement,
            "segmenter unsure": features["score"] < self.min_score,
            "unstable": features["stability"] < self.min_stability,
        }
        return next((reason for reason in REJECTION_STEPS if fails[reason]), None)


def rejection_funnel(reasons: Iterable[str | None]) -> list[tuple[str, int]]:
    """Count the boxes that are left after each check, from all of them to the accepted ones.

    The difference between two steps is the number of masks that were rejected for that reason.

    Args:
        reasons: `MaskCheck.reason` of every box.
    """
    lost = Counter(reasons)
    left = sum(lost.values())
    steps = [("boxes", left)]
    for reason, step in REJECTION_STEPS.items():
        left -= lost[reason]
        steps.append((step, left))
    return [*steps, ("accepted", left)]
