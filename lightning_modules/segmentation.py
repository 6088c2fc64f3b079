"""Module of binary or multi-label segmentation with a searched decision rule."""

from collections.abc import Iterator
from itertools import islice
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
from evaluation.logit_histogram import count_logit_bins, group_by_grid
from evaluation.metrics.measurement import (
    MaskMeasurement,
    Measurements,
    Spacing,
    describe_measurements,
    make_measurements,
)
from evaluation.metrics.segmentation import dice
from lightning_modules.base import EvaluatedModule, StageName
from lightning_modules.losses import BCELoss, ClassBalancedBCELoss


@validated
class SegmentationModule(EvaluatedModule):
    """Segmentation module: logits `B x classes x H x W`, a sigmoid and a mask rule per class.

    `val/dice` is the score at the rule in force, `val/dice_at_half` that at a threshold of .5. If
    most images show no lesion, both are uninformative until the network is good; in that case use
    `val/average_precision` and `val/dice_lesions`.

    Args:
        classes: Names of the classes, in channel order.
        evaluation_size: Grid on which evidence is collected; it is stored with the evidence.
        measurements: Settings of the measurements on the masks of test images, by the name of the
            file in `evaluation/metrics`; null in place of the settings turns one off.
        **supervised: As `SupervisedModule`.
    """

    target = "mask"
    rule: SegmentationRule

    def __init__(
        self,
        classes: Names,
        evaluation_size: PositiveInt | Literal["native"] = "native",
        measurements: Measurements = None,
        **supervised: Any,
    ) -> None:
        measuring: dict[str, MaskMeasurement] = (
            make_measurements(None) if measurements is None else dict(measurements)
        )
        columns = sum(len(each.columns) for each in measuring.values())
        empty = {
            "counts": torch.zeros((0, len(classes), 2, N_BINS), dtype=torch.int32),
            "measured": torch.zeros((0, len(classes), columns), dtype=torch.float64),
        }
        super().__init__(
            classes, SegmentationRule(len(classes)), EvidenceCollector(empty), **supervised
        )
        self.evaluation_size = evaluation_size
        self.measurements = measuring

    def setup(self, stage: str) -> None:
        """Balance the loss by the pixels of each class in train, if the loss requires it.

        Raises:
            UserError: A measurement of the test needs the pixel spacing, which is not known.
        """
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if any(each.needs_spacing for each in self.measurements.values()):
            self._choose_units()  # so that it is refused before a fit, not after it
        for term in self.loss.modules():
            if isinstance(term, BCELoss | ClassBalancedBCELoss) and data.cache.has_masks:
                term.balance(data.pixels)

    def update_predictions(self, logits: Tensor, batch: Sample, stage: StageName) -> None:
        """Add the batch to the evidence: histograms, and in a test measurements of its masks."""
        measuring = stage == "test" and self.measurements
        spacing = iter(batch.get("spacing") or [None] * len(batch["id"]))
        counts, measured = [], []
        for on_grid, truth in group_by_grid(logits, batch["truth"], batch["content"]):
            counts.append(count_logit_bins(on_grid, truth))
            if measuring:
                measured += self._measure(on_grid, truth, spacing)
        self._collector.add(
            batch["id"],
            batch["group"],
            counts=torch.cat(counts),
            **({"measured": torch.tensor(measured, dtype=torch.float64)} if measuring else {}),
        )

    def on_test_epoch_start(self) -> None:
        """Choose the unit of the measurements: mm if the spacing of every image is known."""
        super().on_test_epoch_start()
        self._choose_units()

    def _choose_units(self) -> None:
        known = getattr(self.trainer.datamodule, "test_spacing", None) is not None  # type: ignore[attr-defined]
        self.measurements = {
            name: each.at_spacing(known) for name, each in self.measurements.items()
        }

    def _measure(
        self, logits: Tensor, truth: Tensor, spacing: Iterator[Spacing | None]
    ) -> list[list[list[float]]]:
        """Return the measurements of the masks at the rule in force, `B x classes x columns`.

        As many spacings are taken from `spacing` as there are images.
        """
        masks = zip(self.rule(logits).cpu().numpy(), truth.bool().cpu().numpy(), strict=True)
        return [
            [
                [
                    number
                    for each in self.measurements.values()
                    for number in each.measure(predicted[c], true[c], step)
                ]
                for c in range(len(self.classes))
            ]
            for (predicted, true), step in zip(masks, islice(spacing, len(truth)), strict=True)
        ]

    def make_evidence(self, **parts: Any) -> SegmentationEvidence:
        """Make the evidence of histograms at the mask rule in force, and of measurements at it."""
        measurements = describe_measurements(self.measurements if "measured" in parts else {})
        return SegmentationEvidence(
            grid=str(self.evaluation_size), measurements=measurements, **parts
        )

    def monitored_metrics(self, evidence: Any) -> dict[str, float]:
        """Return means over classes: Dice at the rule and at .5, lesion Dice, average precision.

        The last two are 0 for an empty prediction.
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
