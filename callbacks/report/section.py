"""What other callbacks may add to the page: a section of pictures, one row an image, one column whatever they show of it."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from lightning import Callback, LightningModule, Trainer

from callbacks.report.cases import Case


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        title: Its name; `Case.panes` has one pane a title.
        about: A few words below it.
    """

    title: str
    about: str


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: Its heading.
        legend: What is to be seen.
        columns: From left to right.
        rows: One an image.
    """

    title: str
    legend: str
    columns: Sequence[Column]
    rows: Sequence[Case]


class Showing(Callback):
    """A callback with something to show: `Report` asks each of them when a test ends, in whatever order they stand."""

    @abstractmethod
    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section | None:
        """What the page shows, None for nothing; called on the first process alone."""
