"""Who was called what: images with and without a lesion, and their pixels, one table a class."""

from typing import Any

from lightning_modules.mask_decision import DecidedMask
from lightning_modules.mask_evidence import MaskEvidence


def confusion(evidence: MaskEvidence) -> list[dict[str, Any]]:
    """One entry a class at the rule in force: `names`, and `counts[truth][decision]` of images and `pixels` likewise."""
    return [_of_class(name, evidence.decided(c)) for c, name in enumerate(evidence.classes)]


def _of_class(name: str, decided: DecidedMask) -> dict[str, Any]:
    says, truth = decided.says, decided.positive
    tp, fp, fn, tn = (int(part.sum()) for part in decided.pixels)
    counts = [[int((t & s).sum()) for s in (~says, says)] for t in (~truth, truth)]
    return {"names": [f"no {name}", name], "counts": counts, "pixels": [[tn, fp], [fn, tp]]}
