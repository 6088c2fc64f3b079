"""One class of an evaluation at each of the 256 thresholds a byte can say, and at the rule in force: every score, and who was called what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_modules.evidence import Evidence
from lightning_modules.logit_byte import LEVELS
from lightning_modules.mask_decision import dice
from lightning_modules.score import Decided, Score
from lightning_modules.uncertainty import over_classes

RULE = LEVELS  # the place behind the thresholds, of the rule in force
UNMOVED = (
    "average_precision",
    "auc",
    "image_auc",
    "brier",
    "ece",
    "nll",
)  # scores that no threshold changes
SHARED = ("exact_match",)  # scores of an image, the same for all its classes


@dataclass(frozen=True)
class Swept:
    """One class while its threshold moves; the other classes stand at their rule. The last place of 257 is the rule in force.

    Attributes:
        values: `scores x 257`.
        images: int `4 x 257`: images that are true positives, false positives, false negatives,
            true negatives.
        pixels: The same of pixels where masks are judged, else None.
        positive: Bool `N`: which images truly show the class.
        says: Bool `N`: which are said to at the rule.
        silent: int `N`, the first byte at which an image is no longer said to show it, 256 for
            none.
        dice: `asked images x 257` where masks are judged, else None.
    """

    values: np.ndarray
    images: np.ndarray
    pixels: np.ndarray | None
    positive: np.ndarray
    says: np.ndarray
    silent: np.ndarray
    dice: np.ndarray | None


def sweep(evidence: Evidence, channel: int, at_each_byte: Any, places: Sequence[int] = ()) -> Swept:
    """Asks the scores' own functions at each threshold.

    Args:
        evidence: Of the judged split.
        channel: The class.
        at_each_byte: Evidence and class, to the decisions at the 256 thresholds, one after the
            other.
        places: Images whose own Dice is wanted.
    """
    decided = evidence.decided(channel)
    once, asked = np.ones((1, len(evidence))), np.array(places, int)
    fixed = {
        score.name: float(score.value(decided, once)[0])
        for score in evidence.scores
        if score.name in UNMOVED
    }
    silent = np.zeros(len(evidence), int)
    values, images, pixels, each = [], [], [], []
    for byte, here in enumerate([*at_each_byte(evidence, channel), decided]):
        values.append([_value(score, here, once, fixed) for score in evidence.scores])
        images.append(_quadrants(here))
        silent += here.says if byte < RULE else 0
        if hasattr(here, "pixels"):
            pixels.append([int(part.sum()) for part in here.pixels])
            each.append(dice(type(here.pixels)(*(part[asked] for part in here.pixels))))
    return Swept(
        np.array(values).T,
        np.array(images).T,
        np.array(pixels).T if pixels else None,
        np.asarray(decided.positive, bool),
        np.asarray(decided.says, bool),  # type: ignore[attr-defined]
        silent,
        np.array(each).T if each else None,
    )


def _value(score: Score, decided: Decided, once: np.ndarray, fixed: dict[str, float]) -> float:
    return fixed[score.name] if score.name in fixed else float(score.value(decided, once)[0])


def _quadrants(decided: Any) -> tuple[int, int, int, int]:
    says, true = int(decided.says.sum()), int(decided.positive.sum())
    both = int((decided.says & decided.positive).sum())
    return both, says - both, true - both, len(decided.says) - says - true + both


def means(each: Sequence[Swept], scores: Sequence[Score]) -> list[np.ndarray]:
    """Mean over classes while one class moves, for each class: `scores x 257`; a class on which a score is undefined does not count."""
    ruled = np.array([of_class.values[:, RULE:] for of_class in each])  # classes x scores x 1
    shared = np.array([score.name in SHARED for score in scores])
    found = []
    for channel, moving in enumerate(each):
        of_all = np.repeat(ruled, RULE + 1, axis=2)
        of_all[channel] = moving.values
        found.append(np.where(shared[:, None], moving.values, over_classes(of_all)))
    return found
