"""Counts of a data set's flaws and of what was done about them, by reason."""

from collections import defaultdict
from typing import Any

EXAMPLES = 5


class CleaningReport:
    """Counts every repair and omission by reason, with the first few files of each.

    Example:
        report.count("exact duplicate annotation dropped", "train/a.jpg")
    """

    def __init__(self) -> None:
        self._files: dict[str, list[str]] = defaultdict(list)

    def count(self, reason: str, file: str) -> None:
        """Adds one case of `reason`."""
        self._files[reason].append(file)

    def __getitem__(self, reason: str) -> int:
        return len(self._files.get(reason, []))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Reason -> {count, examples}, the most frequent first."""
        reasons = sorted(self._files.items(), key=lambda item: (-len(item[1]), item[0]))
        return {
            reason: {"count": len(files), "examples": files[:EXAMPLES]} for reason, files in reasons
        }
