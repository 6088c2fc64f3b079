"""What an evaluation keeps of each image: per class, a histogram of logit bytes split by the true mask."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.refusal import Refusal
from lightning_modules.logit_byte import LEVELS

VERSION = 1


@dataclass(frozen=True)
class Evidence:
    """The evidence of N images, from which every score follows without the network.

    Attributes:
        ids: `N` strings, each once.
        groups: `N` strings, the patient where known.
        counts: int32 `N x classes x 2 x 256`: pixels of each byte, outside [0] and inside [1] the true mask.
        rule: float64 `N x classes x 3`, the (top, min_area, bottom) in force for each image.
        classes: Names.
        grid: The evaluation size they were taken at, `native` or pixels.
        group_is: "patient" or "image".
    """

    ids: np.ndarray
    groups: np.ndarray
    counts: np.ndarray
    rule: np.ndarray
    classes: tuple[str, ...]
    grid: str
    group_is: str = "image"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def identity(self) -> str:
        """The same for two evaluations of the same images, truths and grid: only such are compared."""
        order = np.argsort(self.ids)
        truth = self.counts.sum(3)[order].astype(np.int64)
        digest = hashlib.sha256(repr((VERSION, self.grid, self.classes, self.ids[order].tolist())).encode())
        digest.update(truth.tobytes())
        return digest.hexdigest()[:16]

    def without(self, ids: set[str]) -> "Evidence":
        """The evidence of all other images."""
        kept = ~np.isin(self.ids, list(ids))
        return replace(self, **{name: getattr(self, name)[kept] for name in ("ids", "groups", "counts", "rule")})

    def write(self, path: Path) -> None:
        """Writes an .npz with edges and version."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items()}
        np.savez_compressed(path, version=VERSION, **arrays)

    @classmethod
    def read(cls, path: Path) -> "Evidence":
        """Reads what `write` wrote.

        Raises:
            Refusal: missing, damaged or of a later version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                stored: dict[str, Any] = {name: file[name] for name in file.files}
            version = int(stored.pop("version"))
            words: dict[str, Any] = {"grid": str(stored["grid"]), "group_is": str(stored["group_is"])}
            evidence = cls(**{**stored, **words, "classes": tuple(stored["classes"].tolist())})
        except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise Refusal(f"{path} is not evidence that can be read ({error}); evaluate the run again with do=[test]") from error
        if version > VERSION:
            raise Refusal(f"{path} is evidence of version {version}, newer than {VERSION}; update this repository to read it")
        return evidence

    @classmethod
    def merge(cls, parts: Sequence["Evidence"]) -> "Evidence":
        """The evidence of several processes or folds as one; an image that stands in several counts once."""
        ids = np.concatenate([part.ids for part in parts])
        _, first = np.unique(ids, return_index=True)
        first.sort()
        stacked = {name: np.concatenate([getattr(part, name) for part in parts])[first] for name in ("groups", "counts", "rule")}
        return cls(ids=ids[first], classes=parts[0].classes, grid=parts[0].grid, group_is=parts[0].group_is, **stacked)


class EvidenceCollector:
    """Gathers histograms batch by batch on the device, and hands over numpy once at the end."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.groups: list[str] = []
        self.counts: list[Tensor] = []

    def add(self, ids: list[str], groups: list[str], counts: Tensor) -> None:
        """Adds a batch of histograms `B x classes x 2 x 256`; nothing is copied from the device."""
        self.ids += ids
        self.groups += groups
        self.counts.append(counts)

    def collect(self, rule: Tensor, classes: tuple[str, ...], grid: str, group_is: str) -> Evidence:
        """The evidence of all processes; the collector is empty afterwards."""
        counts = torch.cat(self.counts).cpu().numpy() if self.counts else np.zeros((0, len(classes), 2, LEVELS), np.int32)
        mine = Evidence(
            ids=np.array(self.ids, dtype=str),
            groups=np.array(self.groups, dtype=str),
            counts=counts,
            rule=np.repeat(rule.numpy()[None], len(counts), axis=0),
            classes=classes,
            grid=grid,
            group_is=group_is,
        )
        self.ids, self.groups, self.counts = [], [], []
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return mine
        parts: list[Evidence | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, mine)
        return Evidence.merge([part for part in parts if part is not None])
