"""Module of segmentation: binary, of overlapping classes or of exclusive ones."""

from collections.abc import Iterator
from itertools import islice
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.arguments import Names, PositiveInt, validated
from datamodules.errors import UserError
from datamodules.loading.dataset import Sample
from evaluation.bootstrap import mean_where_defined
from evaluation.collector import EvidenceCollector
from evaluation.evidence import SegmentationEvidence
from evaluation.exclusive_classes import (
    count_class_pairs,
    count_top_probabilities,
    to_class_map,
    to_planes,
)
from evaluation.logit_bins import HALF_BIN, N_BINS
from evaluation.logit_histogram import count_bytes, group_by_grid
from evaluation.metrics.classification import N_CALIBRATION_BINS
from evaluation.metrics.measurement import (
    MaskMeasurement,
    Measurements,
    Spacing,
    describe_measurements,
    make_measurements,
)
from evaluation.metrics.segmentation import RANKING_METRICS, dice
from evaluation.rule_modules import ExclusiveSegmentationRule, SegmentationRule
from lightning_modules.base import EvaluatedModule, StageName
from lightning_modules.losses import BCELoss, ClassBalancedBCELoss
from lightning_modules.networks.classification import is_classifier


@validated
class SegmentationModule(EvaluatedModule):
    """Segmentation module: logits `B x classes x H x W`, a sigmoid and a mask rule per class.

    For exclusive classes it is a softmax over the background, whose logit is the constant 0, and
    the classes, and the most probable one of each pixel (argmax). The network is the same, and
    `val/pixel_accuracy` takes the place of `val/dice_at_half` and `val/average_precision`.

    `val/dice` is the score at the rule in force, `val/dice_at_half` that at a threshold of .5. If
    most images show no lesion, both are uninformative until the network is good; in that case use
    `val/average_precision` and `val/dice_lesions`.

    Args:
        classes: Names of the classes, in channel order.
        evaluation_size: Grid on which evidence is collected; it is stored with the evidence.
        measurements: Settings of the measurements on the masks of test images, by the name of the
            file in `evaluation/metrics`; null in place of the settings turns one off.
        exclusive: True if each pixel has at most one of the classes. Where several planes of a mask
            are 1 at a pixel, the first one wins.
        **supervised: As `SupervisedModule`.

    Raises:
        UserError: Exclusive classes are fewer than two; or the loss is for exclusive classes and
            the module is not, or the reverse; or the monitored score does not exist.
    """

    target = "mask"
    rule: SegmentationRule | ExclusiveSegmentationRule

    def __init__(
        self,
        classes: Names,
        evaluation_size: PositiveInt | Literal["native"] = "native",
        measurements: Measurements = None,
        exclusive: bool = False,
        **supervised: Any,
    ) -> None:
        if exclusive and len(classes) < 2:
            raise UserError(
                f"module.exclusive=true needs two or more classes, not {list(classes)}; one class"
                " and its background are exclusive=false"
            )
        measuring: dict[str, MaskMeasurement] = (
            make_measurements(None) if measurements is None else dict(measurements)
        )
        columns = sum(len(each.columns) for each in measuring.values())
        empty = {
            "counts": torch.zeros((0, len(classes), 2, N_BINS), dtype=torch.int32),
            "measured": torch.zeros((0, len(classes), columns), dtype=torch.float64),
        }
        if exclusive:
            every = len(classes) + 1
            empty["confusion"] = torch.zeros((0, every, every), dtype=torch.int32)
            empty["calibration"] = torch.zeros((0, N_CALIBRATION_BINS, 3), dtype=torch.float64)
        rule = (ExclusiveSegmentationRule if exclusive else SegmentationRule)(len(classes))
        super().__init__(classes, rule, EvidenceCollector(empty), **supervised)
        self.evaluation_size = evaluation_size
        self.measurements = measuring
        self.exclusive = exclusive
        self._check_exclusive()
        if is_classifier(self.net):
            raise UserError(
                "module.net is a classifier, which gives one number per class, and a segmentation"
                " needs one per class and pixel; take a segmentation network, such as"
                " module/net=unet"
            )

    def _check_exclusive(self) -> None:
        """Refuse a loss of the other kind of classes, and scores that exclusive classes lack."""
        if bool(getattr(self.loss, "exclusive", False)) != self.exclusive:
            kinds = ("overlapping", "exclusive")
            raise UserError(
                f"module.exclusive={str(self.exclusive).lower()}, but the loss is for"
                f" {kinds[not self.exclusive]} classes; set module/loss=dice_cross_entropy, which"
                " follows module.exclusive (a loss of your own for exclusive classes has the"
                " attribute exclusive = True)"
            )
        score = self.monitor.name.rpartition("/")[2]
        if self.exclusive and score in ("dice_at_half", *RANKING_METRICS):
            raise UserError(
                f"monitor.name={self.monitor.name} does not exist for exclusive classes, which have"
                " no threshold; take val/dice, val/dice_lesions or val/pixel_accuracy"
            )

    def setup(self, stage: str) -> None:
        """Balance the loss by the pixels of each class in train, if the loss requires it.

        Raises:
            UserError: A measurement of the test needs the pixel spacing, which is not known; or
                classes are exclusive here and may overlap in the data.
        """
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage != "predict" and self.exclusive and not data.table.exclusive:
            raise UserError(
                "module.exclusive=true, but the classes of this data may overlap; set"
                " module.exclusive=false, or, if each pixel has at most one class, write"
                ' "exclusive": true into the head of the manifest'
            )
        if any(each.needs_spacing for each in self.measurements.values()):
            self._choose_units()  # so that it is refused before a fit, not after it
        for term in self.loss.modules():
            if isinstance(term, BCELoss | ClassBalancedBCELoss) and data.cache.has_masks:
                term.balance(data.pixels)

    def update_predictions(self, logits: Tensor, batch: Sample, stage: StageName) -> None:
        """Add the batch to the evidence: histograms, and in a test measurements of its masks."""
        measuring = stage == "test" and self.measurements
        spacing = iter(batch.get("spacing") or [None] * len(batch["id"]))
        parts: list[dict[str, Tensor]] = []
        measured = []
        for on_grid, truth, ignored in group_by_grid(
            logits, batch["truth"], batch["content"], batch.get("truth_ignored")
        ):
            if self.exclusive:  # at the border of two resampled masks both may be 1
                truth = to_planes(to_class_map(truth), len(self.classes)).to(torch.uint8)
            parts.append(self._count_pixels(on_grid, truth, ignored))
            if measuring:
                measured += self._measure(on_grid, truth, ignored, spacing)
        arrays = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if measuring:
            arrays["measured"] = torch.tensor(measured, dtype=torch.float64)
        self._collector.add(batch["id"], batch["group"], **arrays)

    def _count_pixels(
        self, logits: Tensor, truth: Tensor, ignored: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the arrays of the evidence that count pixels; see `SegmentationEvidence`."""
        bytes_ = self.rule.to_bytes(logits)
        counts = count_bytes(bytes_, truth, ignored)
        if not self.exclusive:
            return {"counts": counts}
        predicted, true = to_class_map(bytes_ >= HALF_BIN), to_class_map(truth)
        return {
            "counts": counts,
            "confusion": count_class_pairs(predicted, true, len(self.classes), ignored),
            "calibration": count_top_probabilities(logits, predicted, true, ignored),
        }

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
        self,
        logits: Tensor,
        truth: Tensor,
        ignored: Tensor | None,
        spacing: Iterator[Spacing | None],
    ) -> list[list[list[float]]]:
        """Return the measurements of the masks at the rule in force, `B x classes x columns`.

        Ignored pixels are in neither mask. As many spacings are taken from `spacing` as there are
        images.
        """
        true_masks = truth.bool() if ignored is None else truth.bool() & (ignored == 0)
        predicted_masks = self.rule(logits, ignored)
        masks = zip(predicted_masks.cpu().numpy(), true_masks.cpu().numpy(), strict=True)
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
            grid=str(self.evaluation_size),
            measurements=measurements,
            exclusive=self.exclusive,
            **parts,
        )

    def monitored_metrics(self, evidence: Any) -> dict[str, float]:
        """Return means over classes: Dice at the rule and at .5, lesion Dice, average precision.

        The last two are 0 for an empty prediction. Exclusive classes have the Dice, the lesion Dice
        and the accuracy of pixels.
        """
        decided = [evidence.decision(c) for c in range(len(self.classes))]
        found = {"dice": fmean(float(dice(of_class.pixels).mean()) for of_class in decided)}
        if not self.exclusive:
            at_half = evidence.with_rule(self.rule.initial_values)
            found["dice_at_half"] = fmean(
                float(dice(at_half.decision(c).pixels).mean()) for c in range(len(self.classes))
            )
        once = np.ones((1, len(evidence)))
        for score in (
            score
            for score in evidence.metrics
            if score.name in ("dice_lesions", "average_precision", "pixel_accuracy")
        ):
            values = mean_where_defined(
                np.array([score.compute(of_class, once) for of_class in decided])
            )
            found[score.name] = float(np.nan_to_num(values[0]))
        return found
