"""Finds the mask rule that scores best on validation evidence and leaves it in the module."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from callbacks.rule_search import ThresholdSearchCallback
from datamodules.arguments import Fraction, FractionRange, validated
from lightning_modules import mask_search
from lightning_modules.mask_evidence import SegmentationEvidence


@validated
class SegmentationThresholdSearch(ThresholdSearchCallback):
    """Searches the mask rule (top, min_area, bottom).

    Example:
        callbacks:
          threshold_search:
            bottom: [0.3, 0.75]     # probabilities; every byte between them is tried
            top: null               # null: top = bottom, a plain threshold
            min_area: [0]           # fractions of the image
            lesions_only: false

    Args:
        bottom: Lowest and highest probability of the pixels that the mask consists of.
        top: Lowest and highest probability of the pixels that must be certain, or None.
        min_area: Fractions of the image that must be certain.
        lesions_only: Maximise the Dice of images with a lesion instead of all.
    """

    kind = SegmentationEvidence

    def __init__(
        self,
        bottom: FractionRange = (0.3, 0.75),
        top: FractionRange | None = None,
        min_area: Annotated[Sequence[Fraction], Field(min_length=1)] = (0.0,),
        lesions_only: bool = False,
    ) -> None:
        super().__init__()
        self.grid = mask_search.RuleGrid.from_ranges(
            list(bottom), None if top is None else list(top), list(min_area)
        )
        self.lesions_only = lesions_only

    def search_rule(self, evidence: SegmentationEvidence) -> Tensor:
        """Search by the mean Dice; a class that val does not show has a rule and no score."""
        found = mask_search.search_segmentation_rule(evidence, self.grid, self.lesions_only)
        self.found = [
            self._describe(f, shown)
            for f, shown in zip(found, (evidence.truth[:, :, 1].sum(0) > 0).tolist(), strict=True)
        ]
        return torch.tensor([f.rule for f in found], dtype=torch.float64)

    def _describe(self, found: mask_search.SegmentationRuleResult, shown: bool) -> dict[str, Any]:
        objective = "dice of lesions" if self.lesions_only else "dice"
        if not shown:
            return {"objective": objective, "score": None, "at_half": None, "warning": "not on val"}
        warning = "no better than predicting nothing" if found.trivial else None
        return {
            "objective": objective,
            "score": found.score,
            "at_half": found.at_half,
            "warning": warning,
        }
