"""What each image adds to the scores of localisation: measured once, one image at a time, and small enough to keep."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from callbacks.pseudo_labels.froc import FROCEvents
from callbacks.pseudo_labels.hits import froc_events, hits_at_k, mask_dice
from callbacks.pseudo_labels.localisation_rules import LocalizationConfig
from callbacks.pseudo_labels.pointing import pointing_game
from callbacks.pseudo_labels.truth import Detections, GroundTruth

ScoreColumns = dict[str, np.ndarray]


@dataclass(frozen=True)
class ImageStats:
    """One image.

    Attributes:
        id: Of the image.
        group: Patient.
        n_lesions: How many; None where they are unknown, and nothing else is there then.
        means: Score -> the image's own, NaN where the image does not count.
        sums: Score -> sum over its lesions.
        event_scores: Of its events on the FROC, `E`.
        is_true_positive: Bool `E`: a lesion is found, else a false positive.
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
    """Compares what was said of an image with what is true."""
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
    """One method on the images whose lesions are known.

    Attributes:
        ids: Of the images, `N`.
        groups: Patients, `N`.
        n_lesions: How many each image has, `N`.
        means: Score -> `N`, NaN where an image does not count.
        sums: Score -> `N`, sums over the image's lesions.
        events: Of the FROC.
        n_unknown: Images left out because nobody knows their lesions.
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
        """From what each image adds.

        Args:
            image_stats: Image by image.
            has_masks: Whether the method draws pseudo masks at all; one that does not has no Dice,
                rather than a Dice of 0.
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
        """The mean of several runs on the same images, for one of networks with other random weights.

        Intervals of it are over patients alone: they do not tell how much the runs differ.

        Raises:
            ValueError: the runs saw other images.
        """
        first = runs[0]
        check_same_images(first, *runs[1:])
        means = {name: _mean_over_runs([run.means[name] for run in runs]) for name in first.means}
        sums = {name: _mean_over_runs([run.sums[name] for run in runs]) for name in first.sums}
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
    """Refuses methods that were not measured on the same images, in the same order.

    Raises:
        ValueError: as it says.
    """
    if any(other.ids != first.ids for other in others):
        raise ValueError(
            "these methods were measured on different images; measure all of them on the same"
            " images, in the same order"
        )


def _mean_over_runs(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over runs; one in which an image does not count (it has no pseudo mask) is left out."""
    counts = np.isfinite(columns)
    return np.where(
        counts.any(0), np.where(counts, columns, 0).sum(0) / np.maximum(1, counts.sum(0)), np.nan
    )
