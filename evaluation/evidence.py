"""Per-image evidence of one split: what was predicted and what is true, saved beside the run."""

import hashlib
import io
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from evaluation.metrics.base import Decision, Metric
from evaluation.metrics.classification import (
    CLASSIFICATION_METRICS,
    EXACT_MATCH,
    ClassificationDecision,
)
from evaluation.metrics.segmentation import (
    SEGMENTATION_METRICS,
    SegmentationDecision,
    apply_rule,
    constant_prediction,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Evidence(ABC):
    """The evidence of N images, from which every score follows without the network.

    Attributes:
        ids: `N` strings, each once.
        groups: `N` strings, the patient where known.
        rule: float64 `N x classes x 3`, the numbers of the decision rule in force for each image.
        classes: Names.
        group_is: "patient" or "image".
    """

    kind: ClassVar[str]
    arrays: ClassVar[tuple[str, ...]]  # what a kind adds with one row an image

    ids: np.ndarray
    groups: np.ndarray
    rule: np.ndarray
    classes: tuple[str, ...]
    group_is: str = "image"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    @abstractmethod
    def headline_metrics(self) -> tuple[str, ...]:
        """Names of the scores that a report leads with; the first one decides."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Every score that this kind of evidence has."""

    @property
    @abstractmethod
    def truth(self) -> np.ndarray:
        """Truth of each image, `N x ...`; part of a test set's identity."""

    @property
    @abstractmethod
    def evaluation_grid(self) -> str:
        """Grid on which predictions are evaluated, in words; part of a test set's identity."""

    @abstractmethod
    def decision(self, channel: int) -> Decision:
        """One class after the rule in force."""

    @abstractmethod
    def baselines(self, channel: int) -> dict[str, Decision]:
        """Return predictions without skill, whose scores are reported next to every real one."""

    @property
    def identity(self) -> str:
        """Hash of images, truths and grid; only evaluations with the same one are compared."""
        order = np.argsort(self.ids)
        digest = hashlib.sha256(
            repr((self.kind, self.evaluation_grid, self.classes, self.ids[order].tolist())).encode()
        )
        digest.update(np.ascontiguousarray(self.truth[order]).tobytes())
        return digest.hexdigest()[:16]

    def with_rule(self, numbers: "Tensor") -> Self:
        """The same evidence under another rule, `classes x 3`."""
        return replace(self, rule=numbers.numpy()[None].repeat(len(self), axis=0))

    def subset(self, rows: np.ndarray) -> Self:
        """The evidence of some images, by number or as bools."""
        cut: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in ("ids", "groups", "rule", *self.arrays)
        }
        return replace(self, **cut)

    def exclude(self, ids: set[str]) -> Self:
        """The evidence of all other images."""
        return self.subset(~np.isin(self.ids, list(ids)))

    @staticmethod
    def merge(parts: Sequence["Evidence"], order: np.ndarray | None = None) -> "Evidence":
        """Merge the evidence of several processes or folds; an image in several counts once.

        Args:
            parts: One or more.
            order: Order of the merged images, as row numbers of the concatenated `parts`.
        """
        names = ("ids", "groups", "rule", *parts[0].arrays)
        ids = np.concatenate([part.ids for part in parts])
        rows = np.arange(len(ids)) if order is None else order
        _, first = np.unique(ids[rows], return_index=True)
        taken = rows[np.sort(first)]
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])[taken] for name in names
        }
        return replace(parts[0], **joined)


@dataclass(frozen=True, kw_only=True)
class SegmentationEvidence(Evidence):
    """The evidence of N segmented images; `rule` holds (top, min_area, bottom).

    Attributes:
        counts: int32 `N x classes x 2 x 256`: pixels of each byte, outside [0] and inside [1] the
            true mask.
        grid: The evaluation size they were taken at, `native` or pixels.
    """

    kind = "mask"
    arrays = ("counts",)
    counts: np.ndarray
    grid: str

    @property
    def headline_metrics(self) -> tuple[str, ...]:
        """Names of the leading scores; image-level ones are among them if images show no lesion."""
        if (self.truth[:, :, 1] == 0).any():
            return (
                "dice",
                "dice_lesions",
                "image_auc",
                "image_sensitivity",
                "image_specificity",
                "average_precision",
            )
        return ("dice", "iou", "precision", "recall", "average_precision")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Overlap, and precision and recall of pixels."""
        return SEGMENTATION_METRICS

    @property
    def truth(self) -> np.ndarray:
        """Pixels outside and inside the true mask, `N x classes x 2`."""
        return self.counts.sum(3, dtype=np.int64)

    @property
    def evaluation_grid(self) -> str:
        """The grid, in words."""
        return (
            "judged at each image's own size"
            if self.grid == "native"
            else f"judged at {self.grid} px"
        )

    def decision(self, channel: int) -> SegmentationDecision:
        """One class after the mask rule."""
        return apply_rule(self.counts[:, channel], self.rule[:, channel])

    def baselines(self, channel: int) -> dict[str, Decision]:
        """Return the empty mask and the full mask as predictions."""
        counts = self.counts[:, channel]
        return {
            "all empty": constant_prediction(counts, positive=False),
            "all positive": constant_prediction(counts, positive=True),
        }


@dataclass(frozen=True, kw_only=True)
class ClassificationEvidence(Evidence):
    """Evidence of N classified images; `rule` holds (threshold, temperature, kept) per class.

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
    def metrics(self) -> tuple[Metric, ...]:
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
        from scipy.special import expit, softmax  # .4 s, which a leaderboard need not wait for

        scaled = self.logits.astype(np.float64) / self.rule[..., 1]
        return softmax(scaled, axis=1) if self.exclusive else expit(scaled)

    @property
    def predicted(self) -> np.ndarray:
        """Bool `N x classes`, the decision."""
        probability = self.probability
        if self.exclusive:
            return np.arange(len(self.classes)) == probability.argmax(1, keepdims=True)
        return probability >= self.rule[..., 0]

    def decision(self, channel: int) -> ClassificationDecision:
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


EVIDENCE_VERSION = 2
EVIDENCE_KINDS: dict[str, type[Evidence]] = {
    kind.kind: kind for kind in (SegmentationEvidence, ClassificationEvidence)
}


def write_evidence(evidence: Evidence, path: Path) -> None:
    """Write evidence, all its arrays and values, to an .npz file."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(evidence).items()}
    file = io.BytesIO()
    np.savez_compressed(file, version=EVIDENCE_VERSION, kind=evidence.kind, **arrays)
    atomic_write(path, file.getvalue())


def read_evidence(path: Path) -> Evidence:
    """Read what `write_evidence` wrote; files of version 1 hold masks.

    Raises:
        UserError: missing, damaged or of a later version.
    """
    try:
        # opened here, as np.load leaves a damaged file open
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            stored: dict[str, Any] = {
                name: array if array.ndim else array.item() for name, array in file.items()
            }
        version, kind = int(stored.pop("version")), EVIDENCE_KINDS[stored.pop("kind", "mask")]
        stored["classes"] = tuple(stored["classes"].tolist())
        evidence = kind(**stored) if version <= EVIDENCE_VERSION else None
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{path} is not evidence that can be read ({error}); evaluate the run again with"
            " do=[test]"
        ) from error
    if evidence is None:
        raise UserError(
            f"{path} is evidence of version {version}, newer than {EVIDENCE_VERSION}; update this"
            " repository to read it"
        )
    return evidence
