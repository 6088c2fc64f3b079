"""Scores of several folds as one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules import probabilities


def merge_fold_scores(parts: Sequence[Path], folder: Path) -> None:
    """Writes one cls_prob.csv of several folds, where each left one.

    Args:
        parts: Their run folders; of several seeds an image's probability is the mean.
        folder: Where to.
    """
    if all((part / probabilities.SCORES_FILE).is_file() for part in parts):
        tables: list[Any] = [probabilities.read_scores(part) for part in parts]
        probabilities.write_scores(probabilities.merge_scores(tables), folder)
