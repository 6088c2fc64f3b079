"""Types of the sections that callbacks add to the page: text, figures, tables and pictures.

Plots of every run's page are in `figures`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reporting.cases import Case


@dataclass(frozen=True)
class Column:
    """Heading of a column of pictures.

    Attributes:
        title: Name of the column; `Case.panes` has one pane per title.
        about: Short text below the name.
    """

    title: str
    about: str


@dataclass(frozen=True)
class Table:
    """A table of a section.

    Attributes:
        title: Text above it.
        head: Heading of each column.
        rows: Texts of the cells; the first cell of a row is its name.
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
        title: Heading of the section.
        legend: Explanation of the section.
        columns: Columns of the pictures, from left to right.
        rows: Rows of the pictures, one per image.
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
