"""What other callbacks may add to the page: sentences, figures, tables, and pictures, one row an image, one column whatever is shown of it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
class Table:
    """A table of a section.

    Attributes:
        title: Above it.
        head: Of each column.
        rows: Cells in words; the first of each row is its name.
        note: Below it.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: Its heading.
        legend: What is to be seen.
        columns: Of the pictures, from left to right.
        rows: One an image.
        said: Sentences that stand first.
        figures: Title -> SVG.
        tables: Behind the figures.
    """

    title: str
    legend: str
    columns: Sequence[Column] = ()
    rows: Sequence[Case] = ()
    said: Sequence[str] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[Table] = ()


class Showing(Callback):
    """A callback with something to show: `Report` asks each of them when a test or a prediction ends, in whatever order they stand."""

    @abstractmethod
    def section(self, trainer: Trainer, pl_module: LightningModule) -> Section | None:
        """What the page shows, None for nothing; called on the first process alone."""

    def known(self) -> dict[str, Any]:
        """What report.json holds besides, by name."""
        return {}
