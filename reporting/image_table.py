"""Build the table of all images of the evaluated split, column by column."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from evaluation.evidence import ClassificationEvidence, Evidence, SegmentationEvidence
from evaluation.metrics.segmentation import dice
from evaluation.threshold_sweep import ThresholdSweep
from reporting import encoding

# `title`, `digits` of numbers, and `values` (N) or, if they differ by class, `of` (classes x N).
ImageColumn = dict[str, Any]


def build_image_table(
    evidence: Evidence,
    columns: list[ImageColumn],
    each: list[ThresholdSweep],
    pictures: Mapping[str, int],
) -> dict[str, Any]:
    """Return the table of all images for the page's script.

    Args:
        evidence: Evidence of the evaluated split.
        columns: Columns of this kind of evidence.
        each: Sweep of each class; empty if no threshold decides.
        pictures: Image -> number of its case.
    """
    groups = [{"title": evidence.group_is, "values": evidence.groups.tolist()}]
    return {
        "ids": evidence.ids.tolist(),
        "columns": (groups if (evidence.groups != evidence.ids).any() else []) + columns,
        "silent": [encoding.encode_uint16(sweep.silent) for sweep in each],
        "flags": [encoding.encode_uint8(sweep.positive + 2 * sweep.predicted) for sweep in each],
        "cases": [pictures.get(id) for id in evidence.ids.tolist()],
    }


def segmentation_columns(evidence: SegmentationEvidence) -> list[ImageColumn]:
    """Return columns of the Dice at the rule and of the lesion's share of the image.

    Exclusive classes have the share of correct pixels and the Dice of each class: no slider selects
    one of them.
    """
    truth, classes = evidence.truth, range(len(evidence.classes))
    share = 100 * truth[:, :, 1] / np.maximum(1, truth.sum(2))
    ruled = [dice(evidence.decision(c).pixels) for c in classes]
    if evidence.exclusive:
        right = np.trace(evidence.confusion, axis1=1, axis2=2)
        pixels = np.maximum(1, evidence.confusion.sum((1, 2)))
        return [
            {
                "title": "correct pixels, % of the image",
                "digits": 3,
                "values": _round_values(100 * right / pixels, 3),
            },
            *(
                {"title": f"Dice {name}", "digits": 4, "values": _round_values(values)}
                for name, values in zip(evidence.classes, ruled, strict=True)
            ),
        ]
    return [
        {
            "title": "Dice at the decision rule",
            "digits": 4,
            "of": [_round_values(ruled[c]) for c in classes],
        },
        {
            "title": "lesion area, % of the image",
            "digits": 3,
            "of": [_round_values(share[:, c], 3) for c in classes],
        },
    ]


def classification_columns(evidence: ClassificationEvidence) -> list[ImageColumn]:
    """Return probabilities; of exclusive classes truth, decision, its probability and outcome."""
    probability = evidence.probability
    if not evidence.exclusive:
        return [
            {
                "title": "probability",
                "digits": 4,
                "of": [_round_values(values) for values in probability.T],
            }
        ]
    names, true = np.array(evidence.classes), evidence.labels.argmax(1)
    predicted = probability.argmax(1)
    return [
        {"title": "truth", "values": names[true].tolist()},
        {"title": "decision", "values": names[predicted].tolist()},
        {
            "title": "probability of the decision",
            "digits": 4,
            "values": _round_values(probability.max(1)),
        },
        {"title": "outcome", "values": np.where(true == predicted, "right", "wrong").tolist()},
    ]


def _round_values(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Round values; whole numbers become int, as most are 0 or 1, and non-finite ones None."""
    return [
        None if not isfinite(value) else int(value) if value == int(value) else value
        for value in np.round(values, digits).tolist()
    ]
