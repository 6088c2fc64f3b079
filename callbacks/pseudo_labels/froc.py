"""The FROC: share of lesions found against mean false positives an image, as the bound on the boxes' score falls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_modules.score import safe_divide

ROUNDING = 1e-9  # false positives an image that sums of shares may be off by


@dataclass(frozen=True)
class Events:
    """Lesions found and false positives of many images, the highest score first.

    Attributes:
        image: Row of the image, `E`.
        score: `E`, falling.
        found: Bool `E`: a lesion is found, else a false positive.
        share: What one counts, `E`: 1, or 1 / runs where several runs are pooled.
    """

    image: np.ndarray
    score: np.ndarray
    found: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, scores: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> "Events":
        """From the events of each image."""
        image = np.repeat(np.arange(len(scores)), [len(each) for each in scores])
        return cls._sorted(
            image,
            np.concatenate([np.zeros(0), *scores]),
            np.concatenate([np.zeros(0, bool), *found]),
            np.ones(len(image)),
        )

    @classmethod
    def pooled(cls, runs: Sequence["Events"]) -> "Events":
        """Of several runs on the same images, each counting its share."""
        image, score, found, share = (
            np.concatenate([getattr(run, name) for run in runs])
            for name in ("image", "score", "found", "share")
        )
        return cls._sorted(image, score, found, share / len(runs))

    @classmethod
    def _sorted(
        cls, image: np.ndarray, score: np.ndarray, found: np.ndarray, share: np.ndarray
    ) -> "Events":
        order = np.argsort(-score, kind="stable")
        return cls(image[order], score[order], found[order], share[order])


@dataclass(frozen=True)
class Froc:
    """Operating points of `R` resamples; the first is the bound that no box reaches, (0, 0).

    Attributes:
        false: Mean false positives an image, `R x points`, rising.
        found: Share of the lesions found, `R x points`, rising; NaN where a resample has no lesion.
    """

    false: np.ndarray
    found: np.ndarray

    def at(self, rate: float) -> np.ndarray:
        """Sensitivity `R` at so many false positives an image.

        Linear between operating points, the highest of several at one rate, and beyond the last one
        as there: no box is left.
        """
        last = np.maximum(0, (self.false <= rate + ROUNDING).sum(1) - 1)
        rows, following = np.arange(len(last)), np.minimum(last + 1, self.false.shape[1] - 1)
        step = self.false[rows, following] - self.false[rows, last]
        part = np.where(
            step > 0, (rate - self.false[rows, last]) / np.where(step > 0, step, 1), 0
        ).clip(0, 1)
        return self.found[rows, last] + part * (
            self.found[rows, following] - self.found[rows, last]
        )

    def area(self, to: float) -> np.ndarray:
        """Mean sensitivity `R` over 0 to so many false positives an image (the partial area, divided by that width)."""
        false, step = self.false[:, :-1], np.diff(self.false)
        within = np.clip(to - false, 0, step)  # of each step, what lies left of `to`
        rise = np.diff(self.found) * np.where(step > 0, within / np.where(step > 0, step, 1), 0)
        steps = (within * (self.found[:, :-1] + rise / 2)).sum(1)
        return (steps + np.maximum(0, to - self.false[:, -1]) * self.found[:, -1]) / to


def froc(events: Events, lesions: np.ndarray, weights: np.ndarray) -> Froc:
    """Operating points at every score there is; equal scores are one step.

    Args:
        events: Of all images.
        lesions: How many each image has, `N`; 0 in a normal image, which counts among the images
            all the same.
        weights: How often each image counts, `R x N`.
    """
    counts = weights[:, events.image] * events.share
    ends = (
        np.flatnonzero(np.append(np.diff(events.score) != 0, True))
        if len(events.score)
        else np.zeros(0, int)
    )
    start = np.zeros((len(weights), 1))
    false, found = (
        np.hstack([start, np.cumsum(counts * kind, axis=1)[:, ends]])
        for kind in (~events.found, events.found)
    )
    return Froc(
        safe_divide(false, weights.sum(1, keepdims=True)),
        safe_divide(found, (weights @ lesions)[:, None]),
    )
