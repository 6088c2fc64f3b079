"""The tables that only a classification has: confusion, and calibration before and after a temperature."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightning_modules.label_evidence import LabelEvidence

CALIBRATION = ("ece", "brier", "nll")


def label_tables(evidence: Mapping[str, LabelEvidence]) -> dict[str, Any]:
    """`confusion`: split -> tables; `calibration`: split -> score -> before and after, where a temperature is in force."""
    found: dict[str, Any] = {
        "confusion": {split: confusion(seen) for split, seen in evidence.items()}
    }
    if any((seen.rule[..., 1] != 1).any() for seen in evidence.values()):
        found["calibration"] = {split: _calibration(seen) for split, seen in evidence.items()}
    return found


def confusion(evidence: LabelEvidence) -> list[dict[str, Any]]:
    """One table of truth against decision where classes exclude one another, else one a class.

    Returns:
        Tables with `names` and `counts[truth][decision]`.
    """
    says, truth = evidence.says, evidence.labels > 0
    if evidence.exclusive:
        return [
            {
                "names": list(evidence.classes),
                "counts": (truth.T.astype(int) @ says.astype(int)).tolist(),
            }
        ]
    return [
        {
            "names": [f"no {name}", name],
            "counts": [
                [int((t & s).sum()) for s in (~says[:, c], says[:, c])]
                for t in (~truth[:, c], truth[:, c])
            ],
        }
        for c, name in enumerate(evidence.classes)
    ]


def _calibration(evidence: LabelEvidence) -> dict[str, dict[str, float]]:
    """Means over classes; before: as if the temperature were 1."""
    rule = evidence.rule.copy()
    rule[..., 1] = 1.0
    plain = LabelEvidence(**{**vars(evidence), "rule": rule})
    once = np.ones((1, len(evidence)))
    scores = [score for score in evidence.scores if score.name in CALIBRATION]

    def mean(seen: LabelEvidence, value: Any) -> float:
        return float(np.mean([value(seen.decided(c), once)[0] for c in range(len(seen.classes))]))

    return {
        score.name: {"before": mean(plain, score.value), "after": mean(evidence, score.value)}
        for score in scores
    }
