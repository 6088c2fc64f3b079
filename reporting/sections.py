"""Types of the sections that callbacks add to the page: text, figures, tables and pictures.

Plots of every run's page are in `figures`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reporting.cases import Case


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
        title: Text above it.
        head: Heading of each column.
        rows: Cells in words; the first of each row is its name.
        note: Text below it.
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
        legend: Explains what is shown.
        columns: Columns of the pictures, from left to right.
        rows: Rows of the pictures, one an image.
        messages: Sentences at the top.
        figures: Title -> SVG.
        tables: Tables after the figures.
    """

    title: str
    legend: str
    columns: Sequence[Column] = ()
    rows: Sequence[Case] = ()
    messages: Sequence[str] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    tables: Sequence[Table] = ()
