"""Learns masks: binary or multi-label segmentation with a searched decision rule."""

from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.arguments import Names, PositiveInt, validated
from datamodules.loading.dataset import Sample
from evaluation.bootstrap import mean_where_defined
from evaluation.collector import EvidenceCollector
from evaluation.decision_rule import SegmentationRule
from evaluation.evidence import SegmentationEvidence
from evaluation.logit_bins import N_BINS
from evaluation.logit_histogram import logit_histograms
from evaluation.metrics.segmentation import dice
from lightning_modules.base import EvaluatedModule, StageName
from lightning_modules.losses import BCELoss, ClassBalancedBCELoss


@validated
class SegmentationModule(EvaluatedModule):
    """Logits `B x classes x H x W`, a sigmoid each, and a mask rule per class.

    `val/dice` is the score at the rule in force, `val/dice_at_half` that at a threshold of .5.
    Where most images show no lesion both say little until the network is good;
    `val/average_precision` and `val/dice_lesions` say more.

    Args:
        classes: Names of the classes, in channel order.
        evaluation_size: The grid on which evidence is taken; it is written into it.
        **supervised: As `SupervisedModule`.
    """

    target = "mask"
    rule: SegmentationRule

    def __init__(
        self,
        classes: Names,
        evaluation_size: PositiveInt | Literal["native"] = "native",
        **supervised: Any,
    ) -> None:
        empty = {"counts": torch.zeros((0, len(classes), 2, N_BINS), dtype=torch.int32)}
        super().__init__(
            classes, SegmentationRule(len(classes)), EvidenceCollector(empty), **supervised
        )
        self.evaluation_size = evaluation_size

    def setup(self, stage: str) -> None:
        """Weigh classes by how rare their pixels are in train, where the loss asks for it."""
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        for term in self.loss.modules():
            if isinstance(term, BCELoss | ClassBalancedBCELoss) and data.cache.has_masks:
                term.balance(data.pixels)

    def update_predictions(self, logits: Tensor, batch: Sample, stage: StageName) -> None:
        """Adds the batch's histograms to the evidence."""
        self._collector.add(
            batch["id"],
            batch["group"],
            counts=logit_histograms(logits, batch["truth"], batch["content"]),
        )

    def make_evidence(self, **parts: Any) -> SegmentationEvidence:
        """Histograms at the mask rule in force."""
        return SegmentationEvidence(grid=str(self.evaluation_size), **parts)

    def monitored_metrics(self, evidence: Any) -> dict[str, float]:
        """Return means over classes: Dice at the rule and at .5, lesion Dice, average precision.

        An empty prediction scores in neither of the last two.
        """
        decided = [evidence.decision(c) for c in range(len(self.classes))]
        at_half = evidence.with_rule(self.rule.initial_values)
        found = {
            "dice": fmean(float(dice(of_class.pixels).mean()) for of_class in decided),
            "dice_at_half": fmean(
                float(dice(at_half.decision(c).pixels).mean()) for c in range(len(self.classes))
            ),
        }
        once = np.ones((1, len(evidence)))
        for score in (
            score
            for score in evidence.metrics
            if score.name in ("dice_lesions", "average_precision")
        ):
            values = mean_where_defined(
                np.array([score.compute(of_class, once) for of_class in decided])
            )
            found[score.name] = float(np.nan_to_num(values[0]))
        return found
