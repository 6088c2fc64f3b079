"""What each image adds to the scores of localisation: measured once, one image at a time, and small enough to keep."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from callbacks.pseudo_labels.froc import Events
from callbacks.pseudo_labels.hits import budgets, events, mask_dice
from callbacks.pseudo_labels.localisation_rules import LocalisationRules
from callbacks.pseudo_labels.pointing import pointing
from callbacks.pseudo_labels.truth import Said, Truth

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measured:
    """One image.

    Attributes:
        id: Of the image.
        group: Patient.
        lesions: How many; None where they are unknown, and nothing else is there then.
        means: Score -> the image's own, NaN where the image does not count.
        sums: Score -> sum over its lesions.
        scores: Of its events on the FROC, `E`.
        found: Bool `E`: a lesion is found, else a false positive.
    """

    id: str
    group: str
    lesions: int | None
    means: dict[str, float]
    sums: dict[str, float]
    scores: np.ndarray
    found: np.ndarray


def measure(truth: Truth, said: Said, rules: LocalisationRules) -> Measured:
    """Compares what was said of an image with what is true."""
    lesions = truth.lesions
    if lesions is None:
        return Measured(truth.id, truth.group, None, {}, {}, np.zeros(0), np.zeros(0, bool))
    hits, sums = budgets(lesions, np.asarray(said.boxes), rules.iou, rules.budgets)
    means = pointing(truth, said, rules.tolerance) | hits | mask_dice(truth, said)
    return Measured(
        truth.id, truth.group, len(lesions), means, sums, *events(lesions, said, rules.iou)
    )


@dataclass(frozen=True)
class Localised:
    """One method on the images whose lesions are known.

    Attributes:
        ids: Of the images, `N`.
        groups: Patients, `N`.
        lesions: How many each image has, `N`.
        means: Score -> `N`, NaN where an image does not count.
        sums: Score -> `N`, sums over the image's lesions.
        events: Of the FROC.
        unknown: Images left out because nobody knows their lesions.
    """

    ids: tuple[str, ...]
    groups: np.ndarray
    lesions: np.ndarray
    means: Columns
    sums: Columns
    events: Events
    unknown: int

    @classmethod
    def of(cls, measured: Sequence[Measured], masks: bool = True) -> "Localised":
        """From what each image adds.

        Args:
            measured: Image by image.
            masks: Whether the method draws pseudo masks at all; one that does not has no Dice,
                rather than a Dice of 0.
        """
        known = [each for each in measured if each.lesions is not None]
        undrawn = (
            {}
            if masks or not known
            else {name: np.full(len(known), np.nan) for name in ("dice", "dice_drawn")}
        )
        return cls(
            tuple(each.id for each in known),
            np.array([each.group for each in known], dtype=str),
            np.array([each.lesions for each in known], np.float64),
            {
                name: np.array([each.means[name] for each in known])
                for name in (known[0].means if known else {})
            }
            | undrawn,
            {
                name: np.array([each.sums[name] for each in known])
                for name in (known[0].sums if known else {})
            },
            Events.of([each.scores for each in known], [each.found for each in known]),
            len(measured) - len(known),
        )

    @classmethod
    def pooled(cls, runs: Sequence["Localised"]) -> "Localised":
        """The mean of several runs on the same images, for one of networks with other random weights.

        Intervals of it are over patients alone: they do not tell how much the runs differ.

        Raises:
            ValueError: the runs saw other images.
        """
        first = runs[0]
        refuse_unpaired(first, *runs[1:])
        means = {name: _mean([run.means[name] for run in runs]) for name in first.means}
        sums = {name: _mean([run.sums[name] for run in runs]) for name in first.sums}
        return cls(
            first.ids,
            first.groups,
            first.lesions,
            means,
            sums,
            Events.pooled([run.events for run in runs]),
            first.unknown,
        )


def refuse_unpaired(first: Localised, *others: Localised) -> None:
    """Refuses methods that were not measured on the same images, in the same order.

    Raises:
        ValueError: as it says.
    """
    if any(other.ids != first.ids for other in others):
        raise ValueError(
            "these methods were measured on different images; measure all of them on the same"
            " images, in the same order"
        )


def _mean(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over runs; one in which an image does not count (it has no pseudo mask) is left out."""
    counts = np.isfinite(columns)
    return np.where(
        counts.any(0), np.where(counts, columns, 0).sum(0) / np.maximum(1, counts.sum(0)), np.nan
    )
