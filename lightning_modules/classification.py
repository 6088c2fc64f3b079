"""Learns labels: of one class, of several independent ones, or of several exclusive ones."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.arguments import Names, validated
from datamodules.errors import UserError
from datamodules.loading.dataset import Sample
from datamodules.manifest.manifest import is_multiclass as classes_exclude
from evaluation.collector import EvidenceCollector
from evaluation.decision_rule import ClassificationRule
from evaluation.evidence import ClassificationEvidence, Evidence
from lightning_modules.base import EvaluatedModule, StageName
from lightning_modules.losses import BCELoss
from lightning_modules.networks.classification import find_head
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier


@validated
class ClassificationModule(EvaluatedModule):
    """Classifies images: a sigmoid and a threshold per class, or a softmax over exclusive classes.

    Logits and labels (0 and 1) are `B x classes`. Logged are `f1` and `accuracy` at the rule in
    force, `f1_at_half` and `auc`; of several classes their mean.

    Args:
        classes: Names of the classes; one for yes or no.
        exclusive: Exactly one class holds in each image.
        **supervised: As `SupervisedModule`.
    """

    target = "label"
    rule: ClassificationRule

    def __init__(self, classes: Names, exclusive: bool = False, **supervised: Any) -> None:
        if exclusive and len(classes) < 2:
            raise UserError(
                f"module.exclusive=true needs two classes or more, not {list(classes)}; for yes or"
                " no take one class and exclusive=false"
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
        """Refuse a head without one logit per class; a single one would be broadcast."""
        net = self.net.net if isinstance(self.net, FrozenBackboneClassifier) else self.net
        logits = getattr(find_head(net)[1], "out_features", len(self.classes))
        if logits != len(self.classes):
            key = (
                "module.net.net.classes"
                if isinstance(self.net, FrozenBackboneClassifier)
                else "module.net.classes"
            )
            raise UserError(
                f"the network gives {logits} logits, but module.classes names {len(self.classes)};"
                f" set {key}={len(self.classes)}"
            )

    def setup(self, stage: str) -> None:
        """Refuse data without labels or with labels of another kind, and balance the loss.

        `BCELoss` with `pos_weight=train` weighs positives by how rare they are.
        """
        super().setup(stage)
        if stage == "predict":
            return  # a folder of images has no labels, and nothing here asks for them
        table = self.trainer.datamodule.table  # type: ignore[attr-defined]
        if "label" not in table.rows:
            raise UserError(
                "this experiment learns labels, but the data has none; add a column label to the"
                " manifest"
            )
        if classes_exclude(table) != self.exclusive:
            kind = (
                "a list of 0 and 1 an image, or one class"
                if self.exclusive
                else "one class number an image"
            )
            given, mend = str(self.exclusive).lower(), str(not self.exclusive).lower()
            raise UserError(
                f"module.exclusive={given}, but the labels are {kind}; set module.exclusive={mend}"
            )
        for term in self.loss.modules():
            if isinstance(term, BCELoss):
                term.balance(self.trainer.datamodule.images)  # type: ignore[attr-defined]

    def update_predictions(self, logits: Tensor, batch: Sample, stage: StageName) -> None:
        """Adds the batch's logits and labels to the evidence."""
        self._collector.add(
            batch["id"],
            batch["group"],
            logits=logits.float(),
            labels=batch["label"].to(torch.uint8),
        )

    def make_evidence(self, **parts: Any) -> ClassificationEvidence:
        """Logits and labels at the rule in force."""
        return ClassificationEvidence(exclusive=self.exclusive, **parts)

    def monitored_metrics(self, evidence: Evidence) -> dict[str, float]:
        """Means over classes; a class that is absent does not count."""
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
