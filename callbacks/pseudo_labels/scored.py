"""What scoring the localisation gives, and what scores nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from callbacks.pseudo_labels.chain import Known


@dataclass(frozen=True)
class Scored:
    """What was found.

    Attributes:
        table: Method -> score -> value, low, high, n, definition, ...
        gaps: Baseline -> score -> the heat maps minus it, with its interval.
        said: Whether the heat maps point better than the baselines, in a sentence.
        figures: Title -> SVG.
    """

    table: dict[str, Any]
    gaps: dict[str, Any]
    said: str
    figures: dict[str, str]


class Nothing:
    """Scores nothing."""

    measured: ClassVar[list[Any]] = []

    def begin(self, *_: Any) -> None:
        """Nothing to draw."""

    def asks(self, known: Known) -> bool:
        """No image is scored."""
        return False

    def look(self, *_: Any) -> None:
        """Nothing to measure."""

    def scored(self, measured: Sequence[Any]) -> None:
        """Nothing was."""
