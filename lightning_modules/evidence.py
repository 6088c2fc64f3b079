"""Evidence: what an evaluation keeps of each image, and every score follows from."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from lightning_modules.score import Decision, Metric


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
    def scores(self) -> tuple[Metric, ...]:
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
    def decided(self, channel: int) -> Decision:
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

    def with_rule(self, numbers: Tensor) -> Self:
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
