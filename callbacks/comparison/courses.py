"""Training courses of each arm: its epochs, the images seen by then, and its stages' starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from callbacks.comparison.finished import Finished
from callbacks.report.metrics import per_epoch
from callbacks.report.stages import IMAGES, read_stages

EPOCH, SEEN = "epoch", "images seen"


@dataclass(frozen=True)
class Course:
    """One run.

    Attributes:
        table: Epoch (from 0) -> what was logged, `epoch` (from 1) and `images seen` at its end; the
            latter NaN where it is not known.
        stages: As `read_stages` gives them.
    """

    table: pd.DataFrame
    stages: list[dict[str, Any]]

    def curve(self, score: str, over: str) -> pd.DataFrame:
        """Return x (`epoch` or `images seen`) and y (a score) of the epochs with both known."""
        if score not in self.table:
            return pd.DataFrame({"x": [], "y": []})
        return pd.DataFrame({"x": self.table[over], "y": self.table[score]}).dropna()

    def starts(self, over: str) -> list[float]:
        """Return where each stage after the first begins; for `epoch` halfway between two."""
        found = []
        for stage in self.stages[1:]:
            before = stage["first_epoch"] - 1
            if before in self.table.index and pd.notna(self.table[over][before]):
                found.append(float(self.table[over][before]) + (0.5 if over == EPOCH else 0.0))
        return found


def course(run: Finished) -> Course:
    """Read the course of a run; it has no epochs if metrics.csv is missing."""
    table = per_epoch(run.folder / "metrics.csv")
    if len(table):
        table = table.assign(epoch=table.index.to_numpy() + 1).assign(
            **{SEEN: images_seen(table, run.report)}
        )
    return Course(table, read_stages(run.folder))


def images_seen(table: pd.DataFrame, report: Mapping[str, Any]) -> pd.Series:
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


def courses(arms: Mapping[str, Sequence[Finished]]) -> dict[str, list[Course]]:
    """Map each arm to its courses."""
    return {name: [course(run) for run in runs] for name, runs in arms.items()}


def uncounted(arms: Mapping[str, Sequence[Course]]) -> list[str]:
    """List the arms with a run that was trained here on an unknown number of images."""
    return [
        name
        for name, runs in arms.items()
        if any(len(run.table) and run.table[SEEN].isna().any() for run in runs)
    ]


def mean_curve(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average x and y over all curves, in the epochs that all of them have."""
    by_epoch = pd.concat(curves).groupby(level=0)
    return by_epoch.mean()[by_epoch.size() == len(curves)]
