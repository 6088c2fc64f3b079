"""Confusion tables of masks: images and pixels, one table per class."""

from typing import Any

from lightning_modules.mask_decision import SegmentationDecision
from lightning_modules.mask_evidence import SegmentationEvidence


def segmentation_confusion(evidence: SegmentationEvidence) -> list[dict[str, Any]]:
    """Return `names` and `counts[truth][decision]` of each class at the rule.

    `counts` are images; `pixels` counts pixels in the same way.
    """
    return [_class_confusion(name, evidence.decided(c)) for c, name in enumerate(evidence.classes)]


def _class_confusion(name: str, decided: SegmentationDecision) -> dict[str, Any]:
    says, truth = decided.predicted, decided.positive
    tp, fp, fn, tn = (int(part.sum()) for part in decided.pixels)
    counts = [[int((t & s).sum()) for s in (~says, says)] for t in (~truth, truth)]
    return {"names": [f"no {name}", name], "counts": counts, "pixels": [[tn, fp], [fn, tp]]}
