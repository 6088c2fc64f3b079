"""Collector of evidence: batch by batch on the device, and over all processes at the end."""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from evaluation.evidence import Evidence

BLOCK_SIZE = 1024  # images


class EvidenceCollector:
    """Collector of arrays, batch by batch on the device; returns them as numpy arrays at the end.

    Args:
        empty: Each array for zero images, for a process without images.
    """

    def __init__(self, empty: Mapping[str, Tensor]) -> None:
        self.empty = dict(empty)
        self._reset()

    def _reset(self) -> None:
        self.ids: list[str] = []
        self.groups: list[str] = []
        self.blocks: dict[str, list[Tensor]] = {name: [] for name in self.empty}

    def add(self, ids: list[str], groups: list[str], **parts: Tensor) -> None:
        """Add a batch; nothing is copied from the device.

        Batches are written into blocks of many images, because many small tensors that live longer
        than the large ones around them would fragment the memory.
        """
        start = len(self.ids)
        self.ids += ids
        self.groups += groups
        for name, part in parts.items():
            _append_rows(self.blocks[name], start, part.detach())

    def collect(self) -> dict[str, np.ndarray]:
        """Return `ids`, `groups` and the arrays by name; the collector is empty afterwards.

        An array that was never added to is left out.
        """
        arrays = {
            name: _concatenate(blocks, len(self.ids), self.empty[name])
            for name, blocks in self.blocks.items()
            if blocks or not self.ids
        }
        names = {"ids": np.array(self.ids, dtype=str), "groups": np.array(self.groups, dtype=str)}
        self._reset()
        return names | arrays


def merge_ranks(parts: Sequence[Evidence]) -> Evidence:
    """Merge the evidence of all ranks, in the order in which the sampler distributed the images."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([np.arange(len(part)) for part in parts]), kind="stable")
    return Evidence.merge(parts, order)


def _append_rows(blocks: list[Tensor], start: int, part: Tensor) -> None:
    """Write the rows of `part` after the first `start` rows."""
    while len(part):
        row = start % BLOCK_SIZE
        if row == 0:
            blocks.append(part.new_empty((BLOCK_SIZE, *part.shape[1:])))
        fits = min(len(part), BLOCK_SIZE - row)
        blocks[-1][row : row + fits] = part[:fits]
        start, part = start + fits, part[fits:]


def _concatenate(blocks: list[Tensor], rows: int, empty: Tensor) -> np.ndarray:
    """Return all rows as one array; each block is freed as soon as it is copied."""
    first = blocks[0] if blocks else empty
    whole = np.empty((rows, *first.shape[1:]), first[:0].cpu().numpy().dtype)
    for start in range(0, rows, BLOCK_SIZE):
        whole[start : start + BLOCK_SIZE] = blocks.pop(0)[: rows - start].cpu().numpy()
    return whole
