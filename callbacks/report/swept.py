"""Scores and confusion counts of one class at each of the 256 byte thresholds and at the rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_modules.evidence import Evidence
from lightning_modules.logit_byte import LEVELS
from lightning_modules.mask_decision import dice
from lightning_modules.score import Decision, Metric
from lightning_modules.uncertainty import nanmean_classes

AT_RULE = LEVELS  # the place behind the thresholds, of the rule in force
THRESHOLD_FREE = (
    "average_precision",
    "auc",
    "image_auc",
    "brier",
    "ece",
    "nll",
)  # scores that no threshold changes
PER_IMAGE = ("exact_match",)  # scores of an image, the same for all its classes


@dataclass(frozen=True)
class ThresholdSweep:
    """One class at 256 thresholds and, in the last of 257 places, at the rule in force.

    The other classes stay at their rule.

    Attributes:
        values: `scores x 257`.
        images: int `4 x 257`: images that are true positives, false positives, false negatives,
            true negatives.
        pixels: The same counts of pixels for masks, else None.
        positive: Bool `N`: which images truly show the class.
        predicted: Bool `N`: which images are predicted to show it at the rule.
        silent: int `N`, the first byte at which an image is no longer predicted to show it, 256 for
            none.
        dice: `images of places x 257` for masks, else None.
    """

    values: np.ndarray
    images: np.ndarray
    pixels: np.ndarray | None
    positive: np.ndarray
    predicted: np.ndarray
    silent: np.ndarray
    dice: np.ndarray | None


def sweep_thresholds(
    evidence: Evidence, channel: int, at_each_byte: Any, places: Sequence[int] = ()
) -> ThresholdSweep:
    """Evaluate one class with the scores' own functions at each threshold and at the rule.

    Args:
        evidence: Evidence of the evaluated split.
        channel: The class.
        at_each_byte: Takes evidence and class; yields the decisions at the 256 thresholds.
        places: Indices of images whose own Dice is returned.
    """
    decided = evidence.decided(channel)
    once, asked = np.ones((1, len(evidence))), np.array(places, int)
    fixed = {
        score.name: float(score.value(decided, once)[0])
        for score in evidence.scores
        if score.name in THRESHOLD_FREE
    }
    silent = np.zeros(len(evidence), int)
    values, images, pixels, each = [], [], [], []
    for byte, here in enumerate([*at_each_byte(evidence, channel), decided]):
        values.append([_sweep_value(score, here, once, fixed) for score in evidence.scores])
        images.append(_confusion_quadrants(here))
        silent += here.predicted if byte < AT_RULE else 0
        if hasattr(here, "pixels"):
            pixels.append([int(part.sum()) for part in here.pixels])
            each.append(dice(type(here.pixels)(*(part[asked] for part in here.pixels))))
    return ThresholdSweep(
        np.array(values).T,
        np.array(images).T,
        np.array(pixels).T if pixels else None,
        np.asarray(decided.positive, bool),
        np.asarray(decided.predicted, bool),  # type: ignore[attr-defined]
        silent,
        np.array(each).T if each else None,
    )


def _sweep_value(
    score: Metric, decided: Decision, once: np.ndarray, fixed: dict[str, float]
) -> float:
    return fixed[score.name] if score.name in fixed else float(score.value(decided, once)[0])


def _confusion_quadrants(decided: Any) -> tuple[int, int, int, int]:
    says, true = int(decided.predicted.sum()), int(decided.positive.sum())
    both = int((decided.predicted & decided.positive).sum())
    return both, says - both, true - both, len(decided.predicted) - says - true + both


def sweep_means(each: Sequence[ThresholdSweep], scores: Sequence[Metric]) -> list[np.ndarray]:
    """Return for each class the means over classes while its threshold moves: `scores x 257`.

    Classes on which a score is undefined do not count.
    """
    ruled = np.array([of_class.values[:, AT_RULE:] for of_class in each])  # classes x scores x 1
    shared = np.array([score.name in PER_IMAGE for score in scores])
    found = []
    for channel, moving in enumerate(each):
        of_all = np.repeat(ruled, AT_RULE + 1, axis=2)
        of_all[channel] = moving.values
        found.append(np.where(shared[:, None], moving.values, nanmean_classes(of_all)))
    return found
