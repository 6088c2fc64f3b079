"""Which pseudo masks can be believed: measures of each, bounds on them, and why a mask was rejected."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from callbacks.pseudo_labels.jitter import jitter_boxes, segment_with_jitter
from callbacks.pseudo_labels.masks import CONFIG_KEY, Masks, Segmenter
from callbacks.pseudo_labels.measures import mask_features
from datamodules.arguments import Count, Fraction, NonNegative, Number, Whole, validated
from datamodules.refusal import UserError

REJECTION_STEPS = {  # reason of rejection -> what the masks that pass have; asked in this order
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
    """What was found of one mask.

    Attributes:
        features: Name -> value: those of `measures.measure`, and `probability` (of the image),
            `score` (the segmenter's own), `stability` (mean IoU with the masks of moved boxes; NaN
            where nothing was moved).
        reason: The first reason of rejection, one of `REJECTION_STEPS`; None where the mask is accepted.
    """

    features: dict[str, float]
    reason: str | None


@validated
@dataclass(frozen=True, kw_only=True)
class QualityFilter:
    """The bounds that a mask has to keep; what lies on a bound passes.

    Args:
        min_area: Share of the image.
        max_area: Likewise.
        max_components: Pieces that a mask may have, corners touching.
        min_largest: Share of the mask that its largest piece has.
        max_distance: From the peak to the mask, in longer sides of the box.
        min_probability: Of the image, as the classifier says.
        min_agreement: Mean heat within the mask minus mean heat of the rest of the box, -1 to 1; -1
            asks nothing.
        min_score: The segmenter's own score. Of those without weights it is the contrast: noise
            alone has up to about 0.1, a lesion more.
        min_stability: Mean IoU with the masks of moved boxes.
        jitters: How often each box is moved; 0 leaves stability out.
        jitter: By how much each edge is moved at most, as a share of the box's width or height.
        seed: Of the moves.

    Raises:
        Refusal: a bound that is impossible.
    """

    min_area: Fraction = 1e-4
    max_area: Fraction = 3e-2
    max_components: Count = 2
    min_largest: Fraction = 0.8
    max_distance: NonNegative = 0.25
    min_probability: Fraction = 0.0
    min_agreement: Annotated[Number, Field(ge=-1, le=1)] = 0.0
    min_score: NonNegative = 0.1
    min_stability: Fraction = 0.8
    jitters: Annotated[int, Field(ge=0, le=1000)] = 4
    jitter: Annotated[Number, Field(ge=0, le=0.49)] = 0.1
    seed: Whole = 0

    def __post_init__(self) -> None:
        if self.min_area > self.max_area:
            raise UserError(
                f"{CONFIG_KEY}.quality.min_area={self.min_area} is above max_area={self.max_area}, so no"
                " mask could pass; correct one of them"
            )

    def segment(
        self,
        segmenter: Segmenter,
        image: np.ndarray,
        id: str,
        boxes: np.ndarray,
        points: np.ndarray,
    ) -> tuple[Masks, np.ndarray]:
        """The masks of an image's boxes and how stable each is (`N`), by one call of the segmenter; see `jitter.segment_with_jitter`."""
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
        """A verdict of each mask of one image.

        Args:
            masks: `N` masks, `H x W`.
            stability: `N`.
            boxes: Float `N x 4`, which the masks are of.
            points: Float `N x 2`, the peaks.
            heat: Float `H x W`, at the image's own size, 0 to 1.
            probability: Of the image.
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
    """How many boxes are left after each question: first all of them, last the accepted ones; the losses are what each reason rejected.

    Args:
        reasons: `Verdict.reason` of every box.
    """
    lost = Counter(reasons)
    left = sum(lost.values())
    steps = [("boxes", left)]
    for reason, step in REJECTION_STEPS.items():
        left -= lost[reason]
        steps.append((step, left))
    return [*steps, ("accepted", left)]
