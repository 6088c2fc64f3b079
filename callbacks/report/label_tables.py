"""Tables of a classification: confusion, and calibration before and after a temperature."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightning_modules.label_evidence import ClassificationEvidence

CALIBRATION_METRICS = ("ece", "brier", "nll")


def classification_tables(evidence: Mapping[str, ClassificationEvidence]) -> dict[str, Any]:
    """Return the tables of report.json for labels.

    `label_confusion`: split -> tables. `calibration`, if a temperature is in force: split -> score ->
    before and after.
    """
    found: dict[str, Any] = {
        "confusion": {split: label_confusion(seen) for split, seen in evidence.items()}
    }
    if any((seen.rule[..., 1] != 1).any() for seen in evidence.values()):
        found["calibration"] = {split: _calibration_table(seen) for split, seen in evidence.items()}
    return found


def label_confusion(evidence: ClassificationEvidence) -> list[dict[str, Any]]:
    """Count truth against decision: one table for exclusive classes, else one per class.

    Returns:
        Tables with `names` and `counts[truth][decision]`.
    """
    says, truth = evidence.predicted, evidence.labels > 0
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


def _calibration_table(evidence: ClassificationEvidence) -> dict[str, dict[str, float]]:
    """Return score -> mean over classes, before (temperature 1) and after."""
    rule = evidence.rule.copy()
    rule[..., 1] = 1.0
    plain = ClassificationEvidence(**{**vars(evidence), "rule": rule})
    once = np.ones((1, len(evidence)))
    scores = [score for score in evidence.scores if score.name in CALIBRATION_METRICS]

    def mean(seen: ClassificationEvidence, value: Any) -> float:
        return float(np.mean([value(seen.decided(c), once)[0] for c in range(len(seen.classes))]))

    return {
        score.name: {"before": mean(plain, score.value), "after": mean(evidence, score.value)}
        for score in scores
    }
