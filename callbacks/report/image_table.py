"""What the page's table says of every image of the judged split, column by column."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from callbacks.report import packed
from callbacks.report.swept import Swept
from lightning_modules.evidence import Evidence
from lightning_modules.label_evidence import LabelEvidence
from lightning_modules.mask_decision import dice
from lightning_modules.mask_evidence import MaskEvidence

Column = dict[
    str, Any
]  # `title`, `digits` of numbers, and `values` of N or, where they differ by class, `of` classes x N


def table(
    evidence: Evidence, columns: list[Column], each: list[Swept], pictures: Mapping[str, int]
) -> dict[str, Any]:
    """For the page's script.

    Args:
        evidence: Of the judged split.
        columns: What this kind of evidence says of an image.
        each: Of each class; empty where no threshold decides.
        pictures: Image -> number of its case.
    """
    groups = [{"title": evidence.group_is, "values": evidence.groups.tolist()}]
    return {
        "ids": evidence.ids.tolist(),
        "columns": (groups if (evidence.groups != evidence.ids).any() else []) + columns,
        "silent": [packed.words(of_class.silent) for of_class in each],
        "flags": [packed.flags(of_class.positive + 2 * of_class.says) for of_class in each],
        "cases": [pictures.get(id) for id in evidence.ids.tolist()],
    }


def mask_columns(evidence: MaskEvidence) -> list[Column]:
    """Dice at the rule, and how much of the image is lesion."""
    truth, classes = evidence.truth, range(len(evidence.classes))
    share = 100 * truth[:, :, 1] / np.maximum(1, truth.sum(2))
    ruled = [dice(evidence.decided(c).pixels) for c in classes]
    return [
        {"title": "Dice at the rule", "digits": 4, "of": [_rounded(ruled[c]) for c in classes]},
        {
            "title": "lesion, % of the image",
            "digits": 3,
            "of": [_rounded(share[:, c], 3) for c in classes],
        },
    ]


def label_columns(evidence: LabelEvidence) -> list[Column]:
    """Probabilities; of classes that exclude one another what is true, what is said and how sure that is."""
    probability = evidence.probability
    if not evidence.exclusive:
        return [
            {
                "title": "probability",
                "digits": 4,
                "of": [_rounded(of_class) for of_class in probability.T],
            }
        ]
    names, true, said = np.array(evidence.classes), evidence.labels.argmax(1), probability.argmax(1)
    return [
        {"title": "truth", "values": names[true].tolist()},
        {"title": "decision", "values": names[said].tolist()},
        {"title": "its probability", "digits": 4, "values": _rounded(probability.max(1))},
        {"title": "outcome", "values": np.where(true == said, "right", "wrong").tolist()},
    ]


def _rounded(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Whole numbers without a point: most of several classes are a 0 or a 1; None for what is no number."""
    return [
        None if not isfinite(value) else int(value) if value == int(value) else value
        for value in np.round(values, digits).tolist()
    ]
