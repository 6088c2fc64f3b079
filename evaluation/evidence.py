"""Per-image evidence of one split: predictions and ground truth, saved in the run folder."""

import hashlib
import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from datamodules.errors import UserError
from datamodules.formats.atomic_write import atomic_write
from evaluation.decision_rule import decide_labels, label_probabilities
from evaluation.metrics.base import Decision, Metric
from evaluation.metrics.classification import (
    CLASSIFICATION_METRICS,
    EXACT_MATCH,
    EXCLUSIVE_CLASSIFICATION_METRICS,
    N_CALIBRATION_BINS,
    ClassificationDecision,
    ExclusiveClassificationDecision,
)
from evaluation.metrics.measurement import (
    MaskMeasurement,
    parse_measurements,
    shared_measurements,
)
from evaluation.metrics.segmentation import (
    EXCLUSIVE_SEGMENTATION_METRICS,
    RANKING_METRICS,
    SEGMENTATION_METRICS,
    ExclusiveSegmentationDecision,
    SegmentationDecision,
    apply_rule,
    constant_prediction,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Evidence(ABC):
    """Evidence of N images, from which every score can be computed without the network.

    Attributes:
        ids: `N` strings, each once.
        groups: `N` strings, the patient if known.
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
        """Names of the main scores of a report; the first one is decisive."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """All scores of this kind of evidence."""

    @property
    @abstractmethod
    def truth(self) -> np.ndarray:
        """Ground truth of each image, `N x ...`; part of a test set's identity."""

    @property
    @abstractmethod
    def evaluation_grid(self) -> str:
        """Description of the evaluation grid; part of a test set's identity."""

    @abstractmethod
    def decision(self, channel: int) -> Decision:
        """One class after the rule in force."""

    @abstractmethod
    def baselines(self, channel: int) -> dict[str, Decision]:
        """Return predictions without skill, which are reported next to real ones."""

    @property
    def identity(self) -> str:
        """Hash of images, ground truth and grid; only evaluations of equal hash are compared."""
        order = np.argsort(self.ids)
        digest = hashlib.sha256(
            repr((self.kind, self.evaluation_grid, self.classes, self.ids[order].tolist())).encode()
        )
        digest.update(np.ascontiguousarray(self.truth[order]).tobytes())
        return digest.hexdigest()[:16]

    def check(self) -> None:
        """Compare kinds and shapes of the arrays, which come from a file.

        Raises:
            ValueError: An array has not one row for each image, or holds no numbers.
        """
        n = len(self.ids)
        if not self.classes or not all(isinstance(name, str) and name for name in self.classes):
            raise ValueError("its classes are no names")
        if len(set(self.classes)) < len(self.classes) or len(set(self.ids.tolist())) < n:
            raise ValueError("a class or an id occurs twice")
        for name in ("ids", "groups"):
            if getattr(self, name).shape != (n,) or getattr(self, name).dtype.kind != "U":
                raise ValueError(f"{name} is no list of {n} texts")
        for name in ("rule", *self.arrays):
            array = getattr(self, name)
            if len(array) != n or array.dtype.kind not in "biuf":
                raise ValueError(f"{name} holds no numbers of {n} images")
        by_class = (self.arrays[0], self.truth), ("rule", self.rule)
        if any(array.ndim < 2 or array.shape[1] != len(self.classes) for _, array in by_class):
            raise ValueError(f"an array has not {len(self.classes)} classes")
        if not np.isfinite(getattr(self, self.arrays[0])).all() or not np.isfinite(self.rule).all():
            raise ValueError(f"{self.arrays[0]} or rule holds numbers that are not finite")

    def with_rule(self, numbers: "Tensor") -> Self:
        """Return the same evidence with another rule, `classes x 3`."""
        return replace(self, rule=numbers.numpy()[None].repeat(len(self), axis=0))

    def subset(self, rows: np.ndarray) -> Self:
        """Return the evidence of some images, selected by row numbers or bools."""
        cut: dict[str, Any] = {
            name: getattr(self, name)[rows] for name in ("ids", "groups", "rule", *self.arrays)
        }
        return replace(self, **cut)

    def exclude(self, ids: set[str]) -> Self:
        """Return the evidence of all images but these."""
        return self.subset(~np.isin(self.ids, list(ids)))

    @staticmethod
    def merge(parts: Sequence["Evidence"], order: np.ndarray | None = None) -> "Evidence":
        """Merge the evidence of several processes or folds; an image in several counts once.

        Args:
            parts: Evidence to merge, at least one.
            order: Order of the merged images, as row numbers of the concatenated `parts`.
        """
        parts = align_measurements([part for part in parts if len(part)] or parts[:1])
        names = ("ids", "groups", "rule", *parts[0].arrays)
        ids = np.concatenate([part.ids for part in parts])
        rows = np.arange(len(ids)) if order is None else order
        _, first = np.unique(ids[rows], return_index=True)
        taken = rows[np.sort(first)]
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])[taken] for name in names
        }
        return replace(parts[0], **joined)


NO_MEASUREMENTS = "{}"


@dataclass(frozen=True, kw_only=True)
class SegmentationEvidence(Evidence):
    """Evidence of N segmented images; `rule` holds (top, min_area, bottom).

    Attributes:
        counts: int32 `N x classes x 2 x 256`: pixels of each byte, outside [0] and inside [1] the
            true mask.
        grid: Evaluation size of the counts, `native` or pixels.
        measured: float64 `N x classes x columns`: what was measured on the masks at `rule`; without
            columns on val, and under any other rule.
        measurements: Measurements that the columns belong to, as `describe_measurements` writes
            them.
        exclusive: True if each pixel has one class or is background. The bytes are then those of
            margins, `quantize_margins`, and the rule is the argmax.
        confusion: int32 `N x (classes + 1) x (classes + 1)` for exclusive classes: pixels of each
            true (row) and predicted (column) class, the background first; else without rows.
        calibration: float64 `N x bins x 3` for exclusive classes: wrong pixels, correct pixels and
            the sum of the predicted classes' probabilities, in bins of that probability; else
            without bins.
    """

    kind = "mask"
    arrays = ("counts", "measured", "confusion", "calibration")
    counts: np.ndarray
    grid: str
    measured: np.ndarray = None  # type: ignore[assignment]  # without columns, see __post_init__
    measurements: str = NO_MEASUREMENTS
    exclusive: bool = False
    confusion: np.ndarray = None  # type: ignore[assignment]  # empty unless exclusive
    calibration: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.measured is None or not self.measured.shape[-1]:
            object.__setattr__(self, "measured", np.zeros((*self.counts.shape[:2], 0)))
        if not self.exclusive:
            object.__setattr__(self, "confusion", np.zeros((len(self.counts), 0, 0), np.int32))
            object.__setattr__(self, "calibration", np.zeros((len(self.counts), 0, 3)))

    @property
    def used_measurements(self) -> list[MaskMeasurement]:
        """Measurements whose columns are there."""
        return [each for each, _ in parse_measurements(self.measurements) if each is not None]

    def with_measurements(self, names: Collection[str]) -> Self:
        """Return the evidence without the columns of all other measurements."""
        stored = json.loads(self.measurements)
        owners = [name for name, each in stored.items() for _ in each["columns"]]
        return replace(
            self,
            measured=self.measured[..., [owner in names for owner in owners]],
            measurements=json.dumps({name: stored[name] for name in stored if name in names}),
        )

    def with_rule(self, numbers: "Tensor") -> Self:
        """Return the same evidence under another rule, at which nothing was measured."""
        return super(SegmentationEvidence, self.with_measurements(())).with_rule(numbers)

    @property
    def headline_metrics(self) -> tuple[str, ...]:
        """Names of the main scores, with image-level ones if some images show no lesion."""
        measured = [name for each in self.used_measurements for name in each.headline_scores]
        overlap = self._overlap_headlines
        if self.exclusive:
            overlap = (*(s for s in overlap if s not in RANKING_METRICS), "pixel_accuracy")
        return (*overlap, *measured)

    @property
    def _overlap_headlines(self) -> tuple[str, ...]:
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
        """Overlap, precision and recall of pixels, and what was measured on the masks."""
        measured = (score for each in self.used_measurements for score in each.metrics)
        overlap = EXCLUSIVE_SEGMENTATION_METRICS if self.exclusive else SEGMENTATION_METRICS
        return (*overlap, *measured)

    @property
    def truth(self) -> np.ndarray:
        """Number of pixels outside and inside the true mask, `N x classes x 2`."""
        return self.counts.sum(3, dtype=np.int64)

    @property
    def evaluation_grid(self) -> str:
        """Description of the grid, and of the classes if they exclude each other."""
        return (
            "evaluated at each image's own size"
            if self.grid == "native"
            else f"evaluated at {self.grid} px"
        ) + (", exclusive classes" if self.exclusive else "")

    def decision(self, channel: int) -> SegmentationDecision:
        """Return the decision for one class by the mask rule."""
        decision = apply_rule(self.counts[:, channel], self.rule[:, channel])
        columns = (name for _, names in parse_measurements(self.measurements) for name in names)
        measured = dict(zip(columns, self.measured[:, channel].T, strict=True))
        if not self.exclusive:
            return replace(decision, columns=measured)
        wrong, right, confidence = np.moveaxis(self.calibration, 2, 0)
        return ExclusiveSegmentationDecision(
            decision.pixels,
            decision.histogram,
            decision.ranking,
            measured,
            right=right.sum(1),
            total=(wrong + right).sum(1),
            calibration_gap=confidence - right,
        )

    def empty_mask_notes(self, channel: int) -> list[str]:
        """Say how images of one class without a predicted or a true mask were scored."""
        decision = self.decision(channel)
        missed = int((decision.positive & ~decision.predicted).sum())
        invented = int((~decision.positive & decision.predicted).sum())
        neither = int((~decision.positive & ~decision.predicted).sum())
        notes = [
            each.describe_empty_masks(missed, invented, neither) for each in self.used_measurements
        ]
        return [note for note in notes if note]

    def baselines(self, channel: int) -> dict[str, Decision]:
        """Return the empty mask and the full mask as predictions.

        For exclusive classes it is the background alone, with a probability of 1: not all classes
        can be everywhere.
        """
        counts = self.counts[:, channel]
        if self.exclusive:
            return {"all background": self._all_background(counts)}
        return {
            "all empty": constant_prediction(counts, positive=False),
            "all positive": constant_prediction(counts, positive=True),
        }

    def _all_background(self, counts: np.ndarray) -> ExclusiveSegmentationDecision:
        empty = constant_prediction(counts, positive=False)
        pixels = self.confusion.sum(2, dtype=np.int64)
        gap = np.zeros((len(self), N_CALIBRATION_BINS))
        gap[:, -1] = pixels[:, 1:].sum(1)
        return ExclusiveSegmentationDecision(
            empty.pixels,
            empty.histogram,
            empty.ranking,
            right=pixels[:, 0],
            total=pixels.sum(1),
            calibration_gap=gap,
        )


@dataclass(frozen=True, kw_only=True)
class ClassificationEvidence(Evidence):
    """Evidence of N classified images; `rule` holds (threshold, temperature, kept) per class.

    Attributes:
        logits: float32 `N x classes`.
        labels: uint8 `N x classes`, 0 or 1.
        exclusive: True if exactly one class holds: then a softmax and the most probable class, else
            a sigmoid and a threshold each.
    """

    kind = "label"
    arrays = ("logits", "labels")
    logits: np.ndarray
    labels: np.ndarray
    exclusive: bool = False

    @property
    def headline_metrics(self) -> tuple[str, ...]:
        """Names of the main scores: those of decisions, and one of the ranking."""
        return ("f1", "auc", "accuracy", "precision", "recall", "specificity")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Scores of decisions, of rankings and of probabilities."""
        if self.exclusive:
            return EXCLUSIVE_CLASSIFICATION_METRICS
        several = (EXACT_MATCH,) if len(self.classes) > 1 else ()
        return (*CLASSIFICATION_METRICS, *several)

    @property
    def truth(self) -> np.ndarray:
        """Labels, `N x classes`."""
        return self.labels

    @property
    def evaluation_grid(self) -> str:
        """Description of the unit of evaluation; labels have no grid."""
        return "one label per image"

    @property
    def probability(self) -> np.ndarray:
        """Probabilities at the temperature in force, float64 `N x classes`."""
        return label_probabilities(self.logits, self.rule[..., 1], self.exclusive)

    @property
    def predicted(self) -> np.ndarray:
        """Decisions, bool `N x classes`."""
        return decide_labels(self.probability, self.rule[..., 0], self.exclusive)

    def decision(self, channel: int) -> ClassificationDecision:
        """One class after the rule in force."""
        truth, says = self.labels > 0, self.predicted
        every = self.probability
        if self.exclusive:
            return _decide_exclusive(every, every[:, channel], truth, says, channel)
        exact = (truth == says).all(1)
        ranking = self.logits[:, channel].astype(np.float64)
        return ClassificationDecision(
            every[:, channel], ranking, truth[:, channel], says[:, channel], exact
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

        def constant_decision(probability: np.ndarray) -> ClassificationDecision:
            """Return the decision that predicts the same probability for every image."""
            decision = (
                np.arange(len(share)) == share.argmax()
                if self.exclusive and 0 < probability.max() < 1
                else probability >= 0.5
            )
            predicted, probabilities = (
                np.broadcast_to(decision, truth.shape),
                np.full(len(truth), probability[channel]),
            )
            if self.exclusive:
                every = np.broadcast_to(probability, truth.shape)
                return _decide_exclusive(every, probabilities, truth, predicted, channel)
            return ClassificationDecision(
                probabilities,
                probabilities,
                truth[:, channel],
                predicted[:, channel],
                (predicted == truth).all(1),
            )

        return {
            "all negative": constant_decision(0 * share),
            "all positive": constant_decision(0 * share + 1),
            "prevalence": constant_decision(share),
        }


def _decide_exclusive(
    every: np.ndarray,
    ranking: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    channel: int,
) -> ExclusiveClassificationDecision:
    """Return one of several exclusive classes; all arrays but `ranking` are `N x classes`."""
    return ExclusiveClassificationDecision(
        every[:, channel],
        ranking,
        truth[:, channel],
        predicted[:, channel],
        (truth == predicted).all(1),
        confidence=np.where(predicted, every, 0).max(1, initial=0),
        given=np.where(truth, every, 0).max(1, initial=0),
        squared_error=((every - truth) ** 2).sum(1),
    )


def align_measurements(parts: Sequence[Evidence]) -> list[Evidence]:
    """Keep what was measured in all of the evidence, with equal settings; other kinds stay."""
    masks = [part for part in parts if isinstance(part, SegmentationEvidence)]
    if len(masks) < len(parts) or len({part.measurements for part in masks}) < 2:
        return list(parts)
    shared = shared_measurements([part.measurements for part in masks])
    return [part.with_measurements(shared) for part in masks]


EVIDENCE_VERSION = 4
# a file that unpacks to more bytes is refused if these are more than so many times its own; 2**28
# are the histograms of 130,000 images
MAX_PLAIN_BYTES, MAX_RATIO = 2**28, 100
EVIDENCE_KINDS: dict[str, type[Evidence]] = {
    kind.kind: kind for kind in (SegmentationEvidence, ClassificationEvidence)
}


def write_evidence(evidence: Evidence, path: Path) -> None:
    """Write evidence, all its arrays and values, to an .npz file."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(evidence).items()}
    file = io.BytesIO()
    np.savez_compressed(file, version=EVIDENCE_VERSION, kind=evidence.kind, **arrays)
    atomic_write(path, file.getvalue())


def _check_archive(path: Path) -> None:
    """Refuse a file of evidence that is no file, or that unpacks to far more than evidence does.

    Raises:
        UserError: The message says how large it is.
    """
    again = "evaluate the run again with do=[test]"
    if not path.is_file():
        there = "it is no file" if path.exists() else "it does not exist"
        raise UserError(f"{path} cannot be read as evidence ({there}); {again}")
    try:
        with zipfile.ZipFile(path) as file:
            size = sum(entry.file_size for entry in file.infolist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as evidence ({error}); {again}") from error
    if size > MAX_PLAIN_BYTES and size > MAX_RATIO * path.stat().st_size:
        raise UserError(
            f"{path} cannot be read as evidence (its {path.stat().st_size:,} bytes unpack to"
            f" {size:,}, more than evidence ever does); {again}"
        )


def read_evidence(path: Path) -> Evidence:
    """Read what `write_evidence` wrote.

    Files of version 1 hold masks, of 1 and 2 no measurement, of 1 to 3 no masks of exclusive
    classes.

    Raises:
        UserError: The file is missing, damaged or of a later version.
    """
    _check_archive(path)
    try:
        # opened here, as np.load leaves a damaged file open
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            stored: dict[str, Any] = {
                name: array if array.ndim else array.item() for name, array in file.items()
            }
        version, kind = int(stored.pop("version")), EVIDENCE_KINDS[stored.pop("kind", "mask")]
        stored["classes"] = tuple(stored["classes"].tolist())
        evidence = kind(**stored) if version <= EVIDENCE_VERSION else None
        if evidence is not None:
            evidence.check()
    except Exception as error:  # damaged arrays make NumPy raise anything, also SyntaxError
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be read as evidence ({reason}); evaluate the run again with do=[test]"
        ) from error
    if evidence is None:
        raise UserError(
            f"{path} is evidence of version {version}, newer than {EVIDENCE_VERSION}; update this"
            " repository"
        )
    return evidence
