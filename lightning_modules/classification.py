"""Classification module for one class, independent classes or exclusive classes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.arguments import Names, validated
from datamodules.errors import UserError
from datamodules.loading.dataset import Sample
from datamodules.manifest.manifest import is_multiclass as classes_exclude
from evaluation.collector import EvidenceCollector
from evaluation.evidence import ClassificationEvidence, Evidence
from evaluation.rule_modules import ClassificationRule
from lightning_modules.base import EvaluatedModule, StageName
from lightning_modules.losses import BCELoss
from lightning_modules.networks.classification import find_head
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier


@validated
class ClassificationModule(EvaluatedModule):
    """Image classifier: a sigmoid and a threshold per class, or a softmax over exclusive classes.

    Logits and labels (0 and 1) are `B x classes`. The logged scores are `f1` and `accuracy` at the
    rule in force, `f1_at_half` and `auc`, averaged over classes.

    Args:
        classes: Names of the classes; one name for a binary label.
        exclusive: True if exactly one class holds in each image.
        **supervised: As `SupervisedModule`.
    """

    target = "label"
    rule: ClassificationRule

    def __init__(self, classes: Names, exclusive: bool = False, **supervised: Any) -> None:
        if exclusive and len(classes) < 2:
            raise UserError(
                f"module.exclusive=true needs two or more classes, not {list(classes)}; for a"
                f" binary"
                " label set one class and exclusive=false"
            )
        empty = {
            "logits": torch.zeros((0, len(classes))),
            "labels": torch.zeros((0, len(classes)), dtype=torch.uint8),
        }
        super().__init__(
            classes,
            ClassificationRule(len(classes), exclusive),
            EvidenceCollector(empty),
            **supervised,
        )
        self.exclusive = exclusive
        self._check_head()

    def _check_head(self) -> None:
        """Refuse a head without one logit per class; a single logit would be broadcast."""
        net = self.net.net if isinstance(self.net, FrozenBackboneClassifier) else self.net
        logits = getattr(find_head(net)[1], "out_features", len(self.classes))
        if logits != len(self.classes):
            raise UserError(
                f"the network gives {logits} logits, but module.classes names {len(self.classes)};"
                f" set module.net.classes={len(self.classes)}"
            )

    def setup(self, stage: str) -> None:
        """Refuse data without labels or with labels of another kind, and balance the loss.

        `BCELoss` with `pos_weight=train` weights positives by their rarity.
        """
        super().setup(stage)
        if stage == "predict":
            return  # a folder of images has no labels and needs none
        table = self.trainer.datamodule.table  # type: ignore[attr-defined]
        if "label" not in table.rows:
            raise UserError(
                "this experiment learns labels, but the data has none; add a column label to the"
                " manifest"
            )
        if classes_exclude(table) != self.exclusive:
            kind = (
                "a list of 0 and 1 per image, or one class"
                if self.exclusive
                else "one class number per image"
            )
            given, fix = str(self.exclusive).lower(), str(not self.exclusive).lower()
            raise UserError(
                f"module.exclusive={given}, but the labels are {kind}; set module.exclusive={fix}"
            )
        for term in self.loss.modules():
            if isinstance(term, BCELoss):
                term.balance(self.trainer.datamodule.images)  # type: ignore[attr-defined]

    def update_predictions(self, logits: Tensor, batch: Sample, stage: StageName) -> None:
        """Add the batch's logits and labels to the evidence."""
        self._collector.add(
            batch["id"],
            batch["group"],
            logits=logits.float(),
            labels=batch["label"].to(torch.uint8),
        )

    def make_evidence(self, **parts: Any) -> ClassificationEvidence:
        """Make the evidence of logits and labels at the rule in force."""
        return ClassificationEvidence(exclusive=self.exclusive, **parts)

    def monitored_metrics(self, evidence: Evidence) -> dict[str, float]:
        """Return the means over classes; absent classes do not count."""
        at_half = evidence.with_rule(self.rule.initial_values)
        named = {
            "f1": (evidence, "f1"),
            "f1_at_half": (at_half, "f1"),
            "auc": (evidence, "auc"),
            "accuracy": (evidence, "accuracy"),
        }
        return {name: _mean_over_classes(seen, score) for name, (seen, score) in named.items()}


def _mean_over_classes(evidence: Evidence, name: str) -> float:
    score = next(score for score in evidence.metrics if score.name == name)
    once = np.ones((1, len(evidence)))
    values = np.array(
        [score.compute(evidence.decision(c), once)[0] for c in range(len(evidence.classes))]
    )
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
