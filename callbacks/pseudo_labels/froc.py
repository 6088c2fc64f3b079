"""The FROC: share of lesions found against mean false positives an image, as the bound on the boxes' score falls."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_modules.score import safe_divide

RATE_TOLERANCE = 1e-9  # false positives an image that sums of shares may be off by


@dataclass(frozen=True)
class FROCEvents:
    """Lesions found and false positives of many images, the highest score first.

    Attributes:
        image_index: Row of the image, `E`.
        score: `E`, falling.
        is_true_positive: Bool `E`: a lesion is found, else a false positive.
        weight: What one counts, `E`: 1, or 1 / runs where several runs are pooled.
    """

    image_index: np.ndarray
    score: np.ndarray
    is_true_positive: np.ndarray
    weight: np.ndarray

    @classmethod
    def from_images(
        cls, scores: Sequence[np.ndarray], is_true_positive: Sequence[np.ndarray]
    ) -> "FROCEvents":
        """From the events of each image."""
        image = np.repeat(np.arange(len(scores)), [len(each) for each in scores])
        return cls._sort_by_score(
            image,
            np.concatenate([np.zeros(0), *scores]),
            np.concatenate([np.zeros(0, bool), *is_true_positive]),
            np.ones(len(image)),
        )

    @classmethod
    def pool(cls, runs: Sequence["FROCEvents"]) -> "FROCEvents":
        """Of several runs on the same images, each counting its share."""
        image, score, found, share = (
            np.concatenate([getattr(run, name) for run in runs])
            for name in ("image_index", "score", "is_true_positive", "weight")
        )
        return cls._sort_by_score(image, score, found, share / len(runs))

    @classmethod
    def _sort_by_score(
        cls,
        image_index: np.ndarray,
        score: np.ndarray,
        is_true_positive: np.ndarray,
        weight: np.ndarray,
    ) -> "FROCEvents":
        order = np.argsort(-score, kind="stable")
        return cls(image_index[order], score[order], is_true_positive[order], weight[order])


@dataclass(frozen=True)
class FROCCurve:
    """Operating points of `R` resamples; the first is the bound that no box reaches, (0, 0).

    Attributes:
        false_positives: Mean false positives an image, `R x points`, rising.
        sensitivity: Share of the lesions found, `R x points`, rising; NaN where a resample has no lesion.
    """

    false_positives: np.ndarray
    sensitivity: np.ndarray

    def sensitivity_at(self, rate: float) -> np.ndarray:
        """Sensitivity `R` at so many false positives an image.

        Linear between operating points, the highest of several at one rate, and beyond the last one
        as there: no box is left.
        """
        last = np.maximum(0, (self.false_positives <= rate + RATE_TOLERANCE).sum(1) - 1)
        rows, following = (
            np.arange(len(last)),
            np.minimum(last + 1, self.false_positives.shape[1] - 1),
        )
        step = self.false_positives[rows, following] - self.false_positives[rows, last]
        part = np.where(
            step > 0, (rate - self.false_positives[rows, last]) / np.where(step > 0, step, 1), 0
        ).clip(0, 1)
        return self.sensitivity[rows, last] + part * (
            self.sensitivity[rows, following] - self.sensitivity[rows, last]
        )

    def partial_auc(self, max_rate: float) -> np.ndarray:
        """Mean sensitivity `R` over 0 to so many false positives an image (the partial area, divided by that width)."""
        false, step = self.false_positives[:, :-1], np.diff(self.false_positives)
        within = np.clip(max_rate - false, 0, step)  # of each step, what lies left of `to`
        rise = np.diff(self.sensitivity) * np.where(
            step > 0, within / np.where(step > 0, step, 1), 0
        )
        steps = (within * (self.sensitivity[:, :-1] + rise / 2)).sum(1)
        return (
            steps + np.maximum(0, max_rate - self.false_positives[:, -1]) * self.sensitivity[:, -1]
        ) / max_rate


def froc_curve(events: FROCEvents, n_lesions: np.ndarray, weights: np.ndarray) -> FROCCurve:
    """Operating points at every score there is; equal scores are one step.

    Args:
        events: Of all images.
        n_lesions: How many each image has, `N`; 0 in a normal image, which counts among the images
            all the same.
        weights: How often each image counts, `R x N`.
    """
    counts = weights[:, events.image_index] * events.weight
    ends = (
        np.flatnonzero(np.append(np.diff(events.score) != 0, True))
        if len(events.score)
        else np.zeros(0, int)
    )
    start = np.zeros((len(weights), 1))
    false, found = (
        np.hstack([start, np.cumsum(counts * kind, axis=1)[:, ends]])
        for kind in (~events.is_true_positive, events.is_true_positive)
    )
    return FROCCurve(
        safe_divide(false, weights.sum(1, keepdims=True)),
        safe_divide(found, (weights @ n_lesions)[:, None]),
    )
