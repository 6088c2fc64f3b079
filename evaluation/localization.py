"""Localization of lesions: pointing game, hit rates, FROC and Dice, with bootstrap intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage
from torchvision.ops import box_iou

from datamodules.arguments import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    config_dataclass,
)
from datamodules.loading.letterbox import Letterbox
from evaluation.bootstrap import (
    MIN_GROUPS,
    N_RESAMPLES,
    Estimate,
    bootstrap_weights,
    mean_where_defined,
    percentile_interval,
)
from evaluation.metrics.base import safe_divide


@dataclass(frozen=True)
class Proposals:
    """Boxes and peaks that a heat map proposes, strongest first, in canvas pixels.

    Attributes:
        boxes: float64 `N x 4` (x1, y1, x2, y2), edges.
        peaks: float64 `N x 2` (x, y), each inside its box; the center of the first pixel is (.5,
            .5).
        heights: float64 `N`, values of the heat map at the peaks.
    """

    boxes: np.ndarray
    peaks: np.ndarray
    heights: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


BoxArray = np.ndarray | Sequence[Sequence[float]]


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of one image's lesions.

    Args:
        id: Id of the image.
        group: Patient.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        boxes: Boxes of the lesions, `T x 4` (x1, y1, x2, y2), edges in pixels; empty for a normal
            image; None if they are unknown.
        mask: Bool `height x width`, or None. If only the mask is given, its connected components
            are the lesions.

    Raises:
        ValueError: Boxes or mask have another shape.
    """

    id: str
    group: str
    height: int
    width: int
    boxes: BoxArray | None
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        boxes = None if self.boxes is None else to_box_array(self.boxes, self.id)
        if self.mask is not None and self.mask.shape != (self.height, self.width):
            raise ValueError(
                f"the true mask of '{self.id}' is {self.mask.shape}, its image {self.height} x"
                f" {self.width}; resize it to that size"
            )
        object.__setattr__(self, "boxes", boxes)

    @property
    def lesions(self) -> np.ndarray | None:
        """Boxes of the lesions, `T x 4`; None if they are unknown."""
        if self.boxes is None and self.mask is not None:
            return find_component_boxes(self.mask)
        return self.boxes  # type: ignore[return-value]  # an array since __post_init__


@dataclass(frozen=True)
class Detections:
    """Detections of a method on one image; by default there are none.

    Args:
        peak: (x, y) of the heat map's maximum; None if the map is all zero, or the classifier calls
            the image normal.
        boxes: `K x 4`, sorted by score; ties keep their order.
        scores: `K`, on any scale that is the same for all images.
        mask: Bool `height x width`, the union of the accepted pseudo masks; None (or all false)
            without any.

    Raises:
        ValueError: Scores and boxes differ in number, or a score is not finite.
    """

    peak: tuple[float, float] | None = None
    boxes: BoxArray = field(default_factory=lambda: np.zeros((0, 4)))
    scores: np.ndarray | Sequence[float] = field(default_factory=lambda: np.zeros(0))
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        boxes, scores = (
            to_box_array(self.boxes, "what was said"),
            np.asarray(self.scores, np.float64),
        )
        if scores.shape != (len(boxes),) or not np.isfinite(scores).all():
            raise ValueError(
                f"{len(boxes)} boxes have scores {scores.tolist()}; give each box one finite score"
            )
        order = np.argsort(-scores, kind="stable")
        object.__setattr__(self, "boxes", boxes[order])
        object.__setattr__(self, "scores", scores[order])

    @classmethod
    def from_proposals(
        cls, proposals: Proposals, letterbox: Letterbox, mask: np.ndarray | None = None
    ) -> "Detections":
        """Build from peaks and boxes on a canvas.

        Args:
            proposals: Proposals in canvas pixels; a box's score is the height of its peak.
            letterbox: Letterbox that maps them back to the image's own pixels.
            mask: Pseudo mask, already in the image's own pixels.
        """
        peaks, boxes = letterbox.points_back(proposals.peaks), letterbox.boxes_back(proposals.boxes)
        return cls(
            (float(peaks[0, 0]), float(peaks[0, 1])) if len(peaks) else None,
            boxes,
            proposals.heights,
            mask,
        )


def reconcile_boxes_with_label(label: int, boxes: BoxArray | None) -> BoxArray | None:
    """Reconcile an image's boxes with its label.

    Args:
        label: 1 for an abnormal image, else 0.
        boxes: Its abnormal boxes, None if it has no annotation.

    Returns:
        No boxes for a normal image, even if some were annotated, because the label is trusted; None
        (unknown) for an abnormal image without a box, which would otherwise count as normal; else
        the boxes unchanged.
    """
    if not label:
        return np.zeros((0, 4))
    return None if boxes is None or not len(boxes) else boxes


def find_component_boxes(mask: np.ndarray) -> np.ndarray:
    """Find the boxes `T x 4` of the components (8 neighbours) of a bool mask `H x W`."""
    found = ndimage.find_objects(ndimage.label(mask, np.ones((3, 3)))[0])
    return to_box_array(
        [[columns.start, rows.start, columns.stop, rows.stop] for rows, columns in found], "a mask"
    )


def to_box_array(boxes: BoxArray, owner: str) -> np.ndarray:
    """Convert boxes to float64 `N x 4`.

    Raises:
        ValueError: The shape differs, or a number is not finite.
    """
    array = np.asarray(boxes, np.float64)
    array = array.reshape(0, 4) if not array.size else array
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise ValueError(
            f"boxes of '{owner}' are {array.shape}, or not all finite; give N x 4 numbers (x1, y1,"
            " x2, y2)"
        )
    return array


def pairwise_box_iou(lesions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Compute the IoU, `T x K`, of lesions `T x 4` and boxes `K x 4`; 0 where both are empty."""
    return np.nan_to_num(box_iou(torch.from_numpy(lesions), torch.from_numpy(boxes)).numpy())


def center_hit(lesions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return bool `T x K`: the box's center lies in the lesion's box, edges included."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((lesions[:, None, :2] <= center) & (center <= lesions[:, None, 2:])).all(-1)


def hits_at_k(
    lesions: np.ndarray, boxes: np.ndarray, iou_threshold: float, max_boxes: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Score the first 1, 2, ... boxes of one image.

    Args:
        lesions: `T x 4`.
        boxes: `K x 4`, strongest first.
        iou_threshold: Smallest IoU of a hit.
        max_boxes: Largest number of boxes that are scored.

    Returns:
        Values for the image, 0 or 1 (NaN without a lesion): `image_hit_iou_at_1`,
        `image_hit_center_at_1`, ...; and sums over the lesions: `hit_rate_iou_at_1`,
        `hit_rate_center_at_1`, `iou_at_1` (of the best box), ....
    """
    means, sums = {}, {}
    ious = pairwise_box_iou(lesions, boxes)
    for b in range(1, max_boxes + 1):
        for kind, match in (("iou", ious >= iou_threshold), ("center", center_hit(lesions, boxes))):
            hit = match[:, :b].any(1)
            means[f"image_hit_{kind}_at_{b}"] = float(hit.any()) if len(lesions) else np.nan
            sums[f"hit_rate_{kind}_at_{b}"] = float(hit.sum())
        sums[f"iou_at_{b}"] = float(ious[:, :b].max(1, initial=0).sum())
    return means, sums


def froc_events(
    lesions: np.ndarray, detections: Detections, iou_threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Collect one image's events for the FROC.

    A box is true if its center lies in a lesion's box or their IoU reaches `iou_threshold`. A
    lesion is found by the strongest of its true boxes; its other boxes are neither found nor false.
    One box may find several lesions.

    Returns:
        Scores `E`, and bool `E`: True for a lesion found, False for a false positive.
    """
    boxes, scores = np.asarray(detections.boxes), np.asarray(detections.scores)
    match = center_hit(lesions, boxes) | (pairwise_box_iou(lesions, boxes) >= iou_threshold)
    found = (
        scores[match[match.any(1)].argmax(1)] if match.any() else scores[:0]
    )  # boxes are sorted, strongest first
    false = scores[~match.any(0)]
    return np.concatenate([found, false]), np.arange(len(found) + len(false)) < len(found)


def mask_dice(truth: GroundTruth, detections: Detections) -> dict[str, float]:
    """Compute the Dice of one image's pseudo mask.

    Without a pseudo mask `dice` is 0 and `dice_drawn` is NaN; without a lesion in a true mask both
    are NaN.

    Raises:
        ValueError: The pseudo mask has another size than the true mask.
    """
    if truth.mask is None or not truth.mask.any():
        return {"dice": np.nan, "dice_drawn": np.nan}
    if detections.mask is None or not detections.mask.any():
        return {"dice": 0.0, "dice_drawn": np.nan}
    if detections.mask.shape != truth.mask.shape:
        raise ValueError(
            f"the pseudo mask of '{truth.id}' is {detections.mask.shape}, the true one"
            f" {truth.mask.shape}; resize it to the image's own size"
        )
    a, b = truth.mask.astype(bool), detections.mask.astype(bool)
    dice = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return {"dice": dice, "dice_drawn": dice}


Point = tuple[float, float]


def pointing_game(truth: GroundTruth, detections: Detections, tolerance: float) -> dict[str, float]:
    """Score one image in the pointing game.

    See Zhang et al. 2018, Top-down neural attention by excitation backprop.

    Args:
        truth: Ground truth of the image.
        detections: Detections, of which the peak is scored.
        tolerance: Distance from the lesion in pixels that still counts; the paper uses 15 for
            photographs of about 500 pixels.

    Returns:
        `pointing_box` and `pointing_mask`, 0 or 1 (no peak is a miss), NaN without a lesion of that
        kind; with the suffix `_random` the probability for a uniformly random pixel, with `_center`
        the score of the image's center.
    """
    found = {}
    boxes = truth.lesions
    for kind, target in (
        (
            "box",
            (
                None
                if boxes is None or not len(boxes)
                else rasterize_boxes(boxes, truth.height, truth.width, tolerance)
            ),
        ),
        (
            "mask",
            (
                None
                if truth.mask is None or not truth.mask.any()
                else dilate_mask(truth.mask, tolerance)
            ),
        ),
    ):
        center = (truth.width / 2, truth.height / 2)
        name = f"pointing_{kind}"
        found[name] = (
            np.nan
            if target is None
            else float(detections.peak is not None and contains(target, detections.peak))
        )
        found[f"{name}_random"] = np.nan if target is None else float(target.mean())
        found[f"{name}_center"] = np.nan if target is None else float(contains(target, center))
    return found


def contains(target: np.ndarray, point: Point) -> bool:
    """Return True if the pixel of (x, y) is set in a bool `H x W`; False outside it."""
    column, row = np.floor(point).astype(int)
    return bool(
        0 <= row < target.shape[0] and 0 <= column < target.shape[1] and target[row, column]
    )


def rasterize_boxes(
    boxes: np.ndarray, height: int, width: int, tolerance: float = 0.0
) -> np.ndarray:
    """Return bool `height x width`: pixels whose center is at most `tolerance` from a box."""
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    near = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in boxes:
        across, down = (
            np.maximum(0, np.maximum(low - at, at - high))
            for low, at, high in ((x1, x, x2), (y1, y, y2))
        )
        near |= np.hypot(down[:, None], across[None]) <= tolerance
    return near


def dilate_mask(mask: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """Dilate a mask, bool `H x W`, by `tolerance` pixels, measured between pixel centers."""
    return (
        mask.astype(bool)
        if tolerance == 0
        else ndimage.distance_transform_edt(~mask.astype(bool)) <= tolerance
    )


RATE_TOLERANCE = 1e-9  # rounding error of false positives per image


@dataclass(frozen=True)
class FROCEvents:
    """True positives (lesions found) and false positives of many images, highest score first.

    Attributes:
        image_index: Row of the image, `E`.
        score: Score, `E`, descending.
        is_true_positive: Bool `E`: True for a lesion found, False for a false positive.
        weight: Count of each event, `E`: 1, or 1 / runs if several runs are pooled.
    """

    image_index: np.ndarray
    score: np.ndarray
    is_true_positive: np.ndarray
    weight: np.ndarray

    @classmethod
    def from_images(
        cls, scores: Sequence[np.ndarray], is_true_positive: Sequence[np.ndarray]
    ) -> "FROCEvents":
        """Build from the events of each image."""
        image = np.repeat(np.arange(len(scores)), [len(each) for each in scores])
        return cls._sort_by_score(
            image,
            np.concatenate([np.zeros(0), *scores]),
            np.concatenate([np.zeros(0, bool), *is_true_positive]),
            np.ones(len(image)),
        )

    @classmethod
    def pool(cls, runs: Sequence["FROCEvents"]) -> "FROCEvents":
        """Pool several runs on the same images, each with weight 1 / runs."""
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
    """Operating points of `R` bootstrap replicates; the first one, (0, 0), accepts no box.

    Attributes:
        false_positives: Mean false positives per image, `R x points`, ascending.
        sensitivity: Fraction of lesions found, `R x points`, ascending; NaN if a replicate has no
            lesion.
    """

    false_positives: np.ndarray
    sensitivity: np.ndarray

    def sensitivity_at(self, rate: float) -> np.ndarray:
        """Compute the sensitivity, `R`, at a rate of false positives per image.

        It is interpolated linearly between operating points; of several points at one rate the
        highest counts; it is constant beyond the last point, which accepts all boxes.
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
        """Compute the mean sensitivity, `R`, over 0 to `max_rate` false positives per image.

        This is the partial area under the curve, divided by `max_rate`.
        """
        false, step = self.false_positives[:, :-1], np.diff(self.false_positives)
        within = np.clip(max_rate - false, 0, step)  # part of each step below `max_rate`
        rise = np.diff(self.sensitivity) * np.where(
            step > 0, within / np.where(step > 0, step, 1), 0
        )
        steps = (within * (self.sensitivity[:, :-1] + rise / 2)).sum(1)
        return (
            steps + np.maximum(0, max_rate - self.false_positives[:, -1]) * self.sensitivity[:, -1]
        ) / max_rate


def froc_curve(events: FROCEvents, n_lesions: np.ndarray, weights: np.ndarray) -> FROCCurve:
    """Compute the operating points at every distinct score.

    Args:
        events: Events of all images.
        n_lesions: Lesions per image, `N`; a normal image has 0, but counts as an image.
        weights: Weight of each image, `R x N`.
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


FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


@config_dataclass
class LocalizationConfig:
    """Configuration of localization scoring, the same for all methods that are compared.

    ```yaml
    rules: {_target_: evaluation.localization.LocalizationConfig, tolerance: 0,
        iou: 0.1, max_boxes: 5}
    ```

    Args:
        tolerance: Distance from a lesion in pixels at which the pointing game still counts a peak;
            15 is common for photographs of about 500 pixels.
        iou: Smallest IoU of a hit. It is low, because boxes of a fixed size tell the place, not the
            size.
        max_boxes: Hit rates are given for the first 1, 2, ..., `max_boxes` boxes of an image.
        rates: False positives per image at which the FROC is read; the seven of Niemeijer et al.
            2011 and LUNA16.
        froc_auc_limit: Upper limit, in false positives per image, of the partial area under the
            FROC.
        resamples: Number of bootstrap replicates (over patients).
        seed: Seed of the bootstrap; methods are compared on the same replicates.

    Raises:
        UserError: A value is out of its range.
    """

    tolerance: NonNegativeFloat = 0.0
    iou: Annotated[float, Field(gt=0, le=1)] = 0.1
    max_boxes: PositiveInt = 5
    rates: Annotated[Sequence[PositiveFloat], Field(min_length=1)] = FROC_RATES
    froc_auc_limit: PositiveFloat = 1.0
    resamples: PositiveInt = N_RESAMPLES
    seed: NonNegativeInt = 0

    def definitions(self) -> dict[str, str]:
        """Return score -> its definition, in the order of a table."""
        off = f" or within {self.tolerance:g} pixels of it" if self.tolerance else ""
        found = {
            "pointing_box": (
                f"share of the images with a lesion in which the maximum of the heat map lies in a"
                f" true box{off}; an image without a maximum is a miss"
            ),
            "pointing_mask": (
                f"share of the images with a true mask in which the maximum of the heat map lies in"
                f" the mask{off}; an image without a maximum is a miss"
            ),
        }
        hit = {
            "iou": f"with an IoU of {self.iou:g} or more",
            "center": "with its center in the box of the lesion",
        }
        for b in range(1, self.max_boxes + 1):
            first = "the first box" if b == 1 else f"one of the first {b} boxes"
            found |= {
                f"hit_rate_{kind}_at_{b}": (
                    f"share of lesions that {first} of their image hits {how}"
                )
                for kind, how in hit.items()
            }
            found |= {
                f"image_hit_{kind}_at_{b}": (
                    f"share of the images with a lesion in which {first} hits a lesion {how}"
                )
                for kind, how in hit.items()
            }
            found[f"iou_at_{b}"] = (
                f"mean over lesions of the best IoU of {first} of their image; 0 without a box"
            )
        rule = (
            f"a box is true by its center within a lesion's box or IoU of {self.iou:g} or more; of"
            " several on one lesion one counts, none is false"
        )
        for rate in self.rates:
            found[froc_score_name(rate)] = (
                f"share of lesions found at {rate:g} false positives an image, over all images;"
                f" {rule}"
            )
        return found | {
            "froc_mean": (
                f"mean of the sensitivities at {', '.join(f'{rate:g}' for rate in self.rates)}"
                " false positives an image (CPM)"
            ),
            "froc_area": (
                f"mean sensitivity over 0 to {self.froc_auc_limit:g} false positives an image"
                " (partial area below the FROC)"
            ),
            "dice": (
                "mean Dice of pseudo mask and true mask over images with a true mask; an image"
                " without a pseudo mask counts 0"
            ),
            "dice_drawn": "the same mean over those of them that have a pseudo mask",
        }


def froc_score_name(rate: float) -> str:
    """Return the name of the sensitivity at `rate` false positives per image."""
    return f"froc_at_{rate:g}"


ScoreColumns = dict[str, np.ndarray]


@dataclass(frozen=True)
class ImageStats:
    """Localization statistics of one image.

    Attributes:
        id: Id of the image.
        group: Patient.
        n_lesions: Number of lesions; None if unknown, in which case everything else is empty.
        means: Score -> the image's own value, NaN if the image does not count.
        sums: Score -> sum over its lesions.
        event_scores: Scores of its events on the FROC, `E`.
        is_true_positive: Bool `E`: True for a lesion found, False for a false positive.
    """

    id: str
    group: str
    n_lesions: int | None
    means: dict[str, float]
    sums: dict[str, float]
    event_scores: np.ndarray
    is_true_positive: np.ndarray


def compute_image_stats(
    truth: GroundTruth, detections: Detections, rules: LocalizationConfig
) -> ImageStats:
    """Compare the detections of one image with its ground truth."""
    lesions = truth.lesions
    if lesions is None:
        return ImageStats(truth.id, truth.group, None, {}, {}, np.zeros(0), np.zeros(0, bool))
    hits, sums = hits_at_k(lesions, np.asarray(detections.boxes), rules.iou, rules.max_boxes)
    means = pointing_game(truth, detections, rules.tolerance) | hits | mask_dice(truth, detections)
    return ImageStats(
        truth.id,
        truth.group,
        len(lesions),
        means,
        sums,
        *froc_events(lesions, detections, rules.iou),
    )


@dataclass(frozen=True)
class LocalizationResults:
    """Results of one method on the images whose lesions are known.

    Attributes:
        ids: Ids of the images, `N`.
        groups: Patients, `N`.
        n_lesions: Lesions per image, `N`.
        means: Score -> `N`, NaN where an image does not count.
        sums: Score -> `N`, sums over the image's lesions.
        events: Events of the FROC.
        n_unknown: Images left out because their lesions are unknown.
    """

    ids: tuple[str, ...]
    groups: np.ndarray
    n_lesions: np.ndarray
    means: ScoreColumns
    sums: ScoreColumns
    events: FROCEvents
    n_unknown: int

    @classmethod
    def from_images(
        cls, image_stats: Sequence[ImageStats], has_masks: bool = True
    ) -> "LocalizationResults":
        """Build from the statistics of each image.

        Args:
            image_stats: Statistics of each image.
            has_masks: False for a method without pseudo masks, which has no Dice instead of a Dice
                of 0.
        """
        known = [each for each in image_stats if each.n_lesions is not None]
        undrawn = (
            {}
            if has_masks or not known
            else {name: np.full(len(known), np.nan) for name in ("dice", "dice_drawn")}
        )
        return cls(
            tuple(each.id for each in known),
            np.array([each.group for each in known], dtype=str),
            np.array([each.n_lesions for each in known], np.float64),
            {
                name: np.array([each.means[name] for each in known])
                for name in (known[0].means if known else {})
            }
            | undrawn,
            {
                name: np.array([each.sums[name] for each in known])
                for name in (known[0].sums if known else {})
            },
            FROCEvents.from_images(
                [each.event_scores for each in known], [each.is_true_positive for each in known]
            ),
            len(image_stats) - len(known),
        )

    @classmethod
    def pool(cls, runs: Sequence["LocalizationResults"]) -> "LocalizationResults":
        """Average several runs on the same images, such as networks with different random weights.

        Intervals of the result cover only the variation over patients, not that between runs.

        Raises:
            ValueError: The runs have different images.
        """
        first = runs[0]
        check_same_images(first, *runs[1:])
        # an image that does not count in a run (it has no pseudo mask) is left out of its mean
        means = {
            name: mean_where_defined([run.means[name] for run in runs]) for name in first.means
        }
        sums = {name: mean_where_defined([run.sums[name] for run in runs]) for name in first.sums}
        return cls(
            first.ids,
            first.groups,
            first.n_lesions,
            means,
            sums,
            FROCEvents.pool([run.events for run in runs]),
            first.n_unknown,
        )


def check_same_images(first: LocalizationResults, *others: LocalizationResults) -> None:
    """Refuse methods that were not evaluated on the same images, in the same order.

    Raises:
        ValueError: The images or their order differ.
    """
    if any(other.ids != first.ids for other in others):
        raise ValueError(
            "these methods were evaluated on different images; evaluate all of them on the same"
            " images, in the same order"
        )


BLIND_GUESSES = {"a random pixel": "random", "the center": "center"}


def estimate_scores(results: LocalizationResults, rules: LocalizationConfig) -> dict[str, Estimate]:
    """Estimate every score with its 95 % percentile interval over patients.

    Scores of the pointing game come with those of random guesses. There is no interval for fewer
    than 20 patients with a lesion. `n` is the number of images: all of them for a FROC, otherwise
    those with a lesion (or true mask).
    """
    point, drawn = compute_scores(results, rules), resample_scores(results, rules)
    return {
        name: _build_estimate(results, name, sentence, point, drawn)
        for name, sentence in rules.definitions().items()
    }


def to_table(
    estimates: Mapping[str, Mapping[str, Estimate]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Convert estimates to the table of report.json; undefined values become None.

    It maps method -> score -> value, low, high, n, degenerate, trivial and definition.
    """
    return {
        method: {name: _estimate_row(score) for name, score in scores.items()}
        for method, scores in estimates.items()
    }


def _estimate_row(score: Estimate) -> dict[str, Any]:
    return asdict(score) | {
        "value": _finite_or_none(score.value),
        "trivial": {name: _finite_or_none(blind) for name, blind in score.trivial.items()},
    }


def resample_scores(
    results: LocalizationResults, rules: LocalizationConfig
) -> dict[str, np.ndarray]:
    """Compute every score on each bootstrap replicate of the patients; empty if they are too few.

    Methods on the same images get the same replicates.
    """
    if count_patients(results, results.n_lesions > 0) < MIN_GROUPS:
        return {}
    numbers = 4 * len(results.events.score)  # a FROC needs several arrays of that size
    blocks = [
        _weighted_scores(results, rules, weights)
        for weights in bootstrap_weights(results.groups, rules.resamples, rules.seed, numbers)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def compute_scores(results: LocalizationResults, rules: LocalizationConfig) -> dict[str, float]:
    """Compute every score on all images, without resampling; NaN if no image counts."""
    return {
        name: float(value[0])
        for name, value in _weighted_scores(results, rules, np.ones((1, len(results.ids)))).items()
    }


def counted_images(results: LocalizationResults, score_name: str) -> np.ndarray:
    """Return bool `N`: the images that count for a score."""
    if score_name in results.means:
        return np.isfinite(results.means[score_name])
    return (
        np.ones(len(results.ids), bool) if score_name.startswith("froc") else results.n_lesions > 0
    )


def count_patients(results: LocalizationResults, selected: np.ndarray) -> int:
    """Count the patients of the images that a bool `N` selects."""
    return len(np.unique(results.groups[selected]))


def _weighted_scores(
    results: LocalizationResults, rules: LocalizationConfig, weights: np.ndarray
) -> dict[str, np.ndarray]:
    return dict(_weighted_means(results, weights)) | dict(
        _weighted_froc_scores(results, rules, weights)
    )


def _weighted_means(
    results: LocalizationResults, weights: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    for name, own in results.means.items():
        counts = np.isfinite(own)
        yield (
            name,
            safe_divide(weights @ np.where(counts, own, 0), weights @ counts.astype(np.float64)),
        )
    for name, sums in results.sums.items():
        yield name, safe_divide(weights @ sums, weights @ results.n_lesions)


def _weighted_froc_scores(
    results: LocalizationResults, rules: LocalizationConfig, weights: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    curve = froc_curve(results.events, results.n_lesions, weights)
    read = {froc_score_name(rate): curve.sensitivity_at(rate) for rate in rules.rates}
    yield from read.items()
    yield "froc_mean", np.mean(list(read.values()), axis=0)
    yield "froc_area", curve.partial_auc(rules.froc_auc_limit)


def _build_estimate(
    results: LocalizationResults,
    score_name: str,
    definition: str,
    point_values: dict[str, float],
    bootstrap_values: dict[str, np.ndarray],
) -> Estimate:
    counts = counted_images(results, score_name)
    low, high, degenerate = percentile_interval(
        bootstrap_values.get(score_name, np.zeros(0)), count_patients(results, counts)
    )
    blind = {
        words: point_values[f"{score_name}_{kind}"]
        for words, kind in BLIND_GUESSES.items()
        if f"{score_name}_{kind}" in point_values
    }
    return Estimate(
        point_values.get(score_name, np.nan),
        low,
        high,
        int(counts.sum()),
        degenerate,
        blind,
        definition,
    )


def _finite_or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
