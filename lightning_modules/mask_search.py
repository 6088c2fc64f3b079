"""Search for the best mask rule on evidence, over a grid of (top, min_area, bottom).

One matrix product scores all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_modules.logit_byte import HALF, LEVELS, bin_of
from lightning_modules.mask_decision import chunks, dice, empty_dice, pixel_counts
from lightning_modules.mask_evidence import SegmentationEvidence

SEGMENTATION_TIE = 1e-9


@dataclass(frozen=True)
class RuleGrid:
    """The rules that are tried.

    Attributes:
        top: Bytes from which a pixel is certain; None makes top = bottom.
        min_area: Fractions of the image that must be certain.
        bottom: Byte thresholds of the mask.
    """

    top: np.ndarray | None
    min_area: np.ndarray
    bottom: np.ndarray

    @classmethod
    def from_ranges(
        cls,
        bottom: Sequence[float],
        top: Sequence[float] | None = None,
        min_area: Sequence[float] = (0.0,),
    ) -> "RuleGrid":
        """Make the grid of all bytes in probability ranges [lowest, highest], and of some areas."""
        return cls(
            None if top is None else _threshold_bins(top),
            np.asarray(min_area, float),
            _threshold_bins(bottom),
        )


def _threshold_bins(span: Sequence[float]) -> np.ndarray:
    return np.arange(bin_of(span[0]), min(LEVELS - 1, bin_of(span[-1])) + 1)


@dataclass(frozen=True)
class SegmentationRuleResult:
    """The best rule of one class.

    Attributes:
        rule: (top, min_area, bottom), bytes and a fraction.
        score: Mean Dice there.
        at_half: Mean Dice at a plain threshold of .5.
        trivial: Whether predicting nothing scores as well.
    """

    rule: tuple[float, float, float]
    score: float
    at_half: float
    trivial: bool


def search_segmentation_rule(
    evidence: SegmentationEvidence, grid: RuleGrid, lesions_only: bool = False
) -> list[SegmentationRuleResult]:
    """Find the best rule of each class.

    Args:
        evidence: Of the images to search on; never test.
        grid: The rules to try.
        lesions_only: Maximise the mean Dice of images with a lesion, as multi-label data needs; of
            all images, with empty/empty = 1, otherwise and where no image shows the class.
    """
    return [
        _search_class_rule(evidence.counts[:, c], grid, lesions_only)
        for c in range(len(evidence.classes))
    ]


def _search_class_rule(
    counts: np.ndarray, grid: RuleGrid, lesions_only: bool
) -> SegmentationRuleResult:
    scores, tops = rule_scores(counts, grid, lesions_only)
    best = np.argwhere(scores >= scores.max() - SEGMENTATION_TIE)
    middle = np.median(best, axis=0)
    t, a, b = best[np.abs(best - middle).sum(1).argmin()]  # ties: the middle of the plateau
    top = grid.bottom[b] if tops is None else tops[t]
    half, _ = rule_scores(counts, RuleGrid(None, np.zeros(1), np.array([HALF])), lesions_only)
    nothing = float(_mean_score(empty_dice(counts)[:, None], counts, lesions_only)[0])
    rule = float(top), float(grid.min_area[a]), float(grid.bottom[b])
    return SegmentationRuleResult(
        rule,
        float(scores[t, a, b]),
        float(half[0, 0, 0]),
        bool(scores.max() <= nothing + SEGMENTATION_TIE),
    )


def rule_scores(
    counts: np.ndarray, grid: RuleGrid, lesions_only: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the mean Dice of every rule, `tops x areas x bottoms`, and the tops.

    Where the grid couples top to bottom, there is one top, and None is returned for the tops.

    Args:
        counts: `N x 2 x 256` of one class.
        grid: The rules.
        lesions_only: As `search_segmentation_rule`.
    """
    lesion = counts[:, 1].sum(1) > 0
    if lesions_only and lesion.any():
        counts = counts[lesion]
    sums = np.sum([_sum_counts(counts[few], grid) for few in chunks(len(counts))], axis=0)
    return sums / max(1, len(counts)), grid.top


def _sum_counts(counts: np.ndarray, grid: RuleGrid) -> np.ndarray:
    """The Dice of every rule, added up over a few images; `tops x areas x bottoms`."""
    drawn = dice(pixel_counts(counts, grid.bottom))  # N x B
    empty = empty_dice(counts)  # N
    above = (
        counts.sum(1)[:, ::-1].cumsum(1)[:, ::-1] / counts.sum((1, 2))[:, None]
    )  # N x 256, share of pixels >= byte
    if grid.top is None:
        shows = above[:, grid.bottom][:, None, :] >= grid.min_area[None, :, None]  # N x A x B
        return np.where(shows, drawn[:, None, :], empty[:, None, None]).sum(0)[None]
    shows = (
        (above[:, grid.top][:, :, None] >= grid.min_area)
        .reshape(len(counts), -1)
        .astype(np.float64)
    )  # N x TA
    gain = shows.T @ (drawn - empty[:, None])
    return (gain + empty.sum()).reshape(len(grid.top), len(grid.min_area), len(grid.bottom))


def _mean_score(values: np.ndarray, counts: np.ndarray, lesions_only: bool) -> np.ndarray:
    lesion = counts[:, 1].sum(1) > 0
    return values[lesion if lesions_only and lesion.any() else slice(None)].mean(0)
