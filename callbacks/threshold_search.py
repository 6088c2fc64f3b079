"""Finds the mask rule that scores best on validation evidence and leaves it in the module."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from lightning_modules.rule_search import Found, Grid, search
from lightning_modules.segmentation import SegmentationModule


class ThresholdSearch(Callback):
    """After each validation the rule (top, min_area, bottom) is searched on its evidence; test uses it as it stands.

    Example:
        callbacks:
          threshold_search:
            bottom: [0.3, 0.75]     # probabilities; every byte between them is tried
            top: null               # null: top = bottom, a plain threshold
            min_area: [0]           # fractions of the image
            lesions_only: false

    Args:
        bottom: Lowest and highest probability at which the mask is drawn.
        top: Likewise of the pixels that must be certain, or None.
        min_area: Fractions of the image that must be certain.
        lesions_only: Maximise the Dice of images with a lesion instead of all.
    """

    def __init__(
        self,
        bottom: Sequence[float] = (0.3, 0.75),
        top: Sequence[float] | None = None,
        min_area: Sequence[float] = (0.0,),
        lesions_only: bool = False,
    ) -> None:
        self.grid = Grid.of(list(bottom), None if top is None else list(top), list(min_area))
        self.lesions_only = lesions_only
        self.found: list[Found] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks once that there is something to search."""
        if not isinstance(pl_module, SegmentationModule):
            raise TypeError("ThresholdSearch needs a SegmentationModule")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Runs before the module logs its scores, so val/dice is the score at the new rule."""
        if trainer.sanity_checking or not isinstance(pl_module, SegmentationModule):
            return
        evidence = pl_module.collect("val")
        self.found = search(evidence, self.grid, self.lesions_only)
        pl_module.rule.numbers = torch.tensor([found.rule for found in self.found], dtype=torch.float64)
        rule = pl_module.rule.numbers.numpy()[None].repeat(len(evidence), axis=0)
        pl_module.evidence["val"] = replace(evidence, rule=rule)

    def as_dict(self) -> list[dict[str, Any]]:
        """What was found, per class, for the report."""
        return [{"val_dice": f.score, "val_dice_at_half": f.at_half, "no_better_than_all_empty": f.trivial} for f in self.found]
