"""Evidence of classified images: their logits and labels."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, softmax

from lightning_modules.evidence import Evidence
from lightning_modules.label_scores import (
    CLASSIFICATION_METRICS,
    EXACT_MATCH,
    ClassificationDecision,
)
from lightning_modules.score import Decision, Metric


@dataclass(frozen=True, kw_only=True)
class ClassificationEvidence(Evidence):
    """The evidence of N classified images; `rule` is `LabelRule`'s (threshold, temperature, kept).

    Attributes:
        logits: float32 `N x classes`.
        labels: uint8 `N x classes`, 0 or 1.
        exclusive: Whether exactly one class holds: then a softmax and the most probable class, else
            a sigmoid and a threshold each.
    """

    kind = "label"
    arrays = ("logits", "labels")
    logits: np.ndarray
    labels: np.ndarray
    exclusive: bool = False

    @property
    def headline_metrics(self) -> tuple[str, ...]:
        """Names of the scores of decisions, and of one of the ranking."""
        return ("f1", "auc", "accuracy", "precision", "recall", "specificity")

    @property
    def scores(self) -> tuple[Metric, ...]:
        """Scores of decisions, of rankings and of probabilities."""
        return (
            (*CLASSIFICATION_METRICS, EXACT_MATCH)
            if len(self.classes) > 1
            else CLASSIFICATION_METRICS
        )

    @property
    def truth(self) -> np.ndarray:
        """The labels."""
        return self.labels

    @property
    def evaluation_grid(self) -> str:
        """Labels have no grid."""
        return "one label an image"

    @property
    def probability(self) -> np.ndarray:
        """float64 `N x classes`, at the temperature in force."""
        scaled = self.logits.astype(np.float64) / self.rule[..., 1]
        return softmax(scaled, axis=1) if self.exclusive else expit(scaled)

    @property
    def predicted(self) -> np.ndarray:
        """Bool `N x classes`, the decision."""
        probability = self.probability
        if self.exclusive:
            return np.arange(len(self.classes)) == probability.argmax(1, keepdims=True)
        return probability >= self.rule[..., 0]

    def decided(self, channel: int) -> ClassificationDecision:
        """One class after the rule in force."""
        truth, says = self.labels > 0, self.predicted
        exact = (truth == says).all(1)
        probability = self.probability[:, channel]
        ranking = probability if self.exclusive else self.logits[:, channel].astype(np.float64)
        return ClassificationDecision(
            probability, ranking, truth[:, channel], says[:, channel], exact
        )

    def by_group(self) -> "ClassificationEvidence":
        """Return one row per group (patient): the maximum of its logits and of its labels."""
        names, member = np.unique(self.groups, return_inverse=True)
        logits = np.full((len(names), len(self.classes)), -np.inf, self.logits.dtype)
        labels = np.zeros((len(names), len(self.classes)), self.labels.dtype)
        np.maximum.at(logits, member, self.logits)
        np.maximum.at(labels, member, self.labels)
        first = np.unique(member, return_index=True)[1]
        return replace(
            self, ids=names, groups=names, logits=logits, labels=labels, rule=self.rule[first]
        )

    def baselines(self, channel: int) -> dict[str, Decision]:
        """Return all negative, all positive, and the prevalence as every image's probability."""
        truth = self.labels > 0
        share = truth.mean(0) if len(truth) else np.zeros(len(self.classes))

        def always(probability: np.ndarray) -> ClassificationDecision:
            said = (
                np.arange(len(share)) == share.argmax()
                if self.exclusive and 0 < probability.max() < 1
                else probability >= 0.5
            )
            says, same = (
                np.broadcast_to(said, truth.shape),
                np.full(len(truth), probability[channel]),
            )
            return ClassificationDecision(
                same, same, truth[:, channel], says[:, channel], (says == truth).all(1)
            )

        return {
            "all negative": always(0 * share),
            "all positive": always(0 * share + 1),
            "prevalence": always(share),
        }
