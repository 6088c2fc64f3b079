"""Training courses of each arm: its epochs, the images seen by then, and its stages' starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from callbacks.comparison.finished import FinishedRun
from callbacks.report.metrics import read_epochs
from callbacks.report.stages import IMAGES, read_stages

EPOCH, IMAGES_SEEN = "epoch", "images seen"


@dataclass(frozen=True)
class TrainingCurve:
    """One run.

    Attributes:
        table: Epoch (from 0) -> what was logged, `epoch` (from 1) and `images seen` at its end; the
            latter NaN where it is not known.
        stages: As `read_stages` gives them.
    """

    table: pd.DataFrame
    stages: list[dict[str, Any]]

    def metric_points(self, score: str, x_axis: str) -> pd.DataFrame:
        """Return x (`epoch` or `images seen`) and y (a score) of the epochs with both known."""
        if score not in self.table:
            return pd.DataFrame({"x": [], "y": []})
        return pd.DataFrame({"x": self.table[x_axis], "y": self.table[score]}).dropna()

    def stage_starts(self, x_axis: str) -> list[float]:
        """Return where each stage after the first begins; for `epoch` halfway between two."""
        found = []
        for stage in self.stages[1:]:
            before = stage["first_epoch"] - 1
            if before in self.table.index and pd.notna(self.table[x_axis][before]):
                found.append(float(self.table[x_axis][before]) + (0.5 if x_axis == EPOCH else 0.0))
        return found


def load_curve(run: FinishedRun) -> TrainingCurve:
    """Read the course of a run; it has no epochs if metrics.csv is missing."""
    table = read_epochs(run.folder / "metrics.csv")
    if len(table):
        table = table.assign(epoch=table.index.to_numpy() + 1).assign(
            **{IMAGES_SEEN: count_images_seen(table, run.report)}
        )
    return TrainingCurve(table, read_stages(run.folder))


def count_images_seen(table: pd.DataFrame, report: Mapping[str, Any]) -> pd.Series:
    """Count the images trained on by the end of each epoch.

    Adds up the images that were logged as sampled; without that log each epoch has an equal share
    of all images trained on. NaN where the table does not begin with the first epoch, as after
    resuming from another run.
    """
    trained = (report.get("resources") or {}).get("images_trained")
    if list(table.index) != list(range(len(table))):
        each = pd.Series(float("nan"), table.index)
    elif IMAGES in table and table[IMAGES].notna().all():
        each = table[IMAGES]
    else:
        each = pd.Series(float("nan") if trained is None else trained / len(table), table.index)
    return each.cumsum()


def load_curves(variants: Mapping[str, Sequence[FinishedRun]]) -> dict[str, list[TrainingCurve]]:
    """Map each arm to its courses."""
    return {name: [load_curve(run) for run in runs] for name, runs in variants.items()}


def variants_without_image_count(variants: Mapping[str, Sequence[TrainingCurve]]) -> list[str]:
    """List the arms with a run that was trained here on an unknown number of images."""
    return [
        name
        for name, runs in variants.items()
        if any(len(run.table) and run.table[IMAGES_SEEN].isna().any() for run in runs)
    ]


def mean_curve(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average x and y over all curves, in the epochs that all of them have."""
    by_epoch = pd.concat(curves).groupby(level=0)
    return by_epoch.mean()[by_epoch.size() == len(curves)]
